// Techmap for Yosys: sums of products with the least area that we know of.
//
// Each product becomes radix-4 Booth rows, of which the FIRST operand is the encoded one: modules that multiply the
// same first operand by many second ones share its encoders (opt_merge finds them). Sign extension is replaced by
// inverted sign bits and one constant for the whole sum, so no column holds a bit that carries no information; Yosys's
// own maccmap extends every row to the width of the result instead. Columns are compressed by full adders in
// arrival order (Dadda's count of adders), down to a rippling last row.

(* techmap_celltype = "$macc_v2" *)
module _80_booth_macc_v2 (A, B, C, Y);
	parameter NPRODUCTS = 0;
	parameter NADDENDS = 0;
	parameter A_WIDTHS = 16'h0000;
	parameter B_WIDTHS = 16'h0000;
	parameter C_WIDTHS = 16'h0000;
	parameter Y_WIDTH = 0;
	parameter PRODUCT_NEGATED = 1'b0;
	parameter ADDEND_NEGATED = 1'b0;
	parameter A_SIGNED = 1'b0;
	parameter B_SIGNED = 1'b0;
	parameter C_SIGNED = 1'b0;

	localparam COLUMNS = Y_WIDTH;

	function integer a_start(input integer n);
		integer k;
		begin
			a_start = 0;
			for (k = 0; k < n; k = k + 1) a_start = a_start + A_WIDTHS[16*k +: 16];
		end
	endfunction

	function integer b_start(input integer n);
		integer k;
		begin
			b_start = 0;
			for (k = 0; k < n; k = k + 1) b_start = b_start + B_WIDTHS[16*k +: 16];
		end
	endfunction

	function integer c_start(input integer n);
		integer k;
		begin
			c_start = 0;
			for (k = 0; k < n; k = k + 1) c_start = c_start + C_WIDTHS[16*k +: 16];
		end
	endfunction

	input [a_start(NPRODUCTS)-1:0] A;
	input [b_start(NPRODUCTS)-1:0] B;
	input [c_start(NADDENDS)-1:0] C;
	output [Y_WIDTH-1:0] Y;

	function integer digits(input integer p);
		digits = A_SIGNED[p] ? (A_WIDTHS[16*p +: 16] + 1) / 2 : A_WIDTHS[16*p +: 16] / 2 + 1;
	endfunction

	// Index of the sign bit of a row: a row is one bit wider than its (signed) multiplicand, because a digit may be 2.
	function integer row_top(input integer p);
		row_top = B_WIDTHS[16*p +: 16] + (B_SIGNED[p] ? 0 : 1);
	endfunction

	// Bits that the products before p put into each column, counting the rows' +1 for negative digits; 16 bits per
	// entry, one table because Yosys evaluates a function call much more slowly than it indexes a constant.
	function [16*COLUMNS*(NPRODUCTS+1)-1:0] product_table(input integer unused);
		integer p, i, first, last, bits;
		begin
			product_table = 0;
			for (p = 0; p < NPRODUCTS; p = p + 1)
				for (i = 0; i < COLUMNS; i = i + 1) begin
					first = i > row_top(p) ? (i - row_top(p) + 1) / 2 : 0;
					last = i / 2 < digits(p) ? i / 2 : digits(p) - 1;
					bits = product_table[16*(COLUMNS*p + i) +: 16];
					if (last >= first) bits = bits + last - first + 1;
					if (i % 2 == 0 && i / 2 < digits(p)) bits = bits + 1;
					product_table[16*(COLUMNS*(p+1) + i) +: 16] = bits;
				end
		end
	endfunction

	localparam [16*COLUMNS*(NPRODUCTS+1)-1:0] BEFORE = product_table(0);

	function integer addend_bits(input integer column, input integer addends);
		integer k;
		begin
			addend_bits = 0;
			for (k = 0; k < addends; k = k + 1)
				if (C_WIDTHS[16*k +: 16] > column) addend_bits = addend_bits + 1;
		end
	endfunction

	function [Y_WIDTH-1:0] constant(input integer unused);
		integer k, d;
		begin
			constant = 0;
			for (k = 0; k < NPRODUCTS; k = k + 1)
				for (d = 0; d < digits(k); d = d + 1)
					if (2*d + row_top(k) < Y_WIDTH)
						constant = constant - ({{(Y_WIDTH-1){1'b0}}, 1'b1} << (2*d + row_top(k)));
			for (k = 0; k < NADDENDS; k = k + 1) begin
				if (ADDEND_NEGATED[k])
					constant = constant + 1;
				if (C_SIGNED[k] && C_WIDTHS[16*k +: 16] > 0 && C_WIDTHS[16*k +: 16] < Y_WIDTH)
					constant = constant - ({{(Y_WIDTH-1){1'b0}}, 1'b1} << (C_WIDTHS[16*k +: 16] - 1));
				if (!C_SIGNED[k] && ADDEND_NEGATED[k] && C_WIDTHS[16*k +: 16] < Y_WIDTH)
					constant = constant - ({{(Y_WIDTH-1){1'b0}}, 1'b1} << C_WIDTHS[16*k +: 16]);
			end
		end
	endfunction

	localparam [Y_WIDTH-1:0] K = constant(0);

	// Bits in each column before compression: its own and the carries of the column below.
	function [16*(COLUMNS+1)-1:0] all_heights(input integer unused);
		integer i, h, adders;
		begin
			all_heights = 0;
			h = 0;
			for (i = 0; i < COLUMNS; i = i + 1) begin
				h = h + BEFORE[16*(COLUMNS*NPRODUCTS + i) +: 16] + addend_bits(i, NADDENDS);
				all_heights[16*i +: 16] = h;
				adders = h > 0 ? (h - 1) / 2 : 0;
				h = adders + (h - 2*adders == 2 || (h - 2*adders == 1 && K[i]) ? 1 : 0);
			end
		end
	endfunction

	localparam [16*(COLUMNS+1)-1:0] HEIGHTS = all_heights(0);

	function integer tallest(input integer unused);
		integer i;
		begin
			tallest = 1;
			for (i = 0; i < COLUMNS; i = i + 1)
				if (HEIGHTS[16*i +: 16] > tallest) tallest = HEIGHTS[16*i +: 16];
		end
	endfunction

	// One queue per column: own bits, carries from below, then the sums of its adders, each of which takes the next three.
	localparam QUEUE = 2 * tallest(0);
	wire [QUEUE*(COLUMNS+1)-1:0] queue;

	genvar p, d, j, k, i, f;
	generate
		for (p = 0; p < NPRODUCTS; p = p + 1) begin : product
			localparam AW = A_WIDTHS[16*p +: 16];
			localparam BW = B_WIDTHS[16*p +: 16];
			localparam TOP = row_top(p);
			wire [AW+2:0] a = {{2{A_SIGNED[p] ? A[a_start(p)+AW-1] : 1'b0}}, A[a_start(p) +: AW], 1'b0};
			wire [BW+2:0] b = {{2{B_SIGNED[p] ? B[b_start(p)+BW-1] : 1'b0}}, B[b_start(p) +: BW], 1'b0};
			for (d = 0; d < digits(p); d = d + 1) begin : row
				wire one = a[2*d+1] ^ a[2*d];
				wire two = ~one & (a[2*d+2] ^ a[2*d+1]);
				wire negative = a[2*d+2] ^ PRODUCT_NEGATED[p];
				for (j = 0; j <= TOP; j = j + 1)
					if (2*d + j < COLUMNS) begin : digit
						localparam ABOVE = (TOP - j) / 2 < d ? (TOP - j) / 2 : d;
						localparam AT = QUEUE*(2*d+j) + BEFORE[16*(COLUMNS*p + 2*d+j) +: 16] + ABOVE;
						wire magnitude = (one & b[j+1]) | (two & b[j]);
						assign queue[AT] = magnitude ^ negative ^ (j == TOP);
					end
				if (2*d < COLUMNS) begin : plus_one
					assign queue[QUEUE*2*d + BEFORE[16*(COLUMNS*(p+1) + 2*d) +: 16] - 1] = negative;
				end
			end
		end
		for (k = 0; k < NADDENDS; k = k + 1) begin : addend
			localparam CW = C_WIDTHS[16*k +: 16];
			for (j = 0; j < CW; j = j + 1)
				if (j < COLUMNS) begin : digit
					assign queue[QUEUE*j + BEFORE[16*(COLUMNS*NPRODUCTS + j) +: 16] + addend_bits(j, k)] =
						C[c_start(k)+j] ^ ADDEND_NEGATED[k] ^ (C_SIGNED[k] && CW < Y_WIDTH && j == CW - 1);
				end
		end
		for (i = 0; i < COLUMNS; i = i + 1) begin : column
			localparam H = HEIGHTS[16*i +: 16];
			localparam ADDERS = H > 0 ? (H - 1) / 2 : 0;
			localparam LEFT = H - 2*ADDERS;
			localparam UP = i == COLUMNS-1 ? QUEUE*COLUMNS
				: QUEUE*(i+1) + BEFORE[16*(COLUMNS*NPRODUCTS + i+1) +: 16] + addend_bits(i+1, NADDENDS);
			for (f = 0; f < ADDERS; f = f + 1) begin : adder
				\$fa #(.WIDTH(1)) fa (
					.A(queue[QUEUE*i + 3*f]), .B(queue[QUEUE*i + 3*f+1]), .C(queue[QUEUE*i + 3*f+2]),
					.Y(queue[QUEUE*i + H + f]), .X(queue[UP + f]));
			end
			if (LEFT == 0) begin : nothing
				assign Y[i] = K[i];
			end else if (LEFT == 1) begin : single
				assign Y[i] = queue[QUEUE*i + 3*ADDERS] ^ K[i];
				if (K[i]) begin : carry
					assign queue[UP + ADDERS] = queue[QUEUE*i + 3*ADDERS];
				end
			end else begin : pair
				wire x = queue[QUEUE*i + 3*ADDERS];
				wire y = queue[QUEUE*i + 3*ADDERS + 1];
				assign Y[i] = x ^ y ^ K[i];
				assign queue[UP + ADDERS] = K[i] ? x | y : x & y;
			end
		end
	endgenerate
endmodule
