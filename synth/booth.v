// Techmap for Yosys: sums of products in the least area that we know of. Run it on what `alumacc -macc-only` makes.
//
// Each product becomes radix-4 Booth rows, of which the FIRST operand is the encoded one. What depends on it alone (the
// encoders, and the sum of the +1 that complete negative rows) is identical in all modules' sums that share their first
// operands, and opt_merge leaves one copy. Sign extension is replaced by inverted sign bits and one constant for the
// whole sum, whereas Yosys's maccmap extends every row to the width of the result. Columns are compressed by full
// adders in the order of arrival, down to a rippling last row: no column holds a bit that carries no information.

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

	localparam [Y_WIDTH-1:0] ONE = 1;

	function integer total(input [16*(NPRODUCTS+NADDENDS+1)-1:0] widths, input integer count);
		integer n;
		begin
			total = 0;
			for (n = 0; n < count; n = n + 1) total = total + widths[16*n +: 16];
		end
	endfunction

	input [total(A_WIDTHS, NPRODUCTS)-1:0] A;
	input [total(B_WIDTHS, NPRODUCTS)-1:0] B;
	input [total(C_WIDTHS, NADDENDS)-1:0] C;
	output [Y_WIDTH-1:0] Y;

	function integer digits(input integer p);
		digits = A_SIGNED[p] ? (A_WIDTHS[16*p +: 16] + 1) / 2 : A_WIDTHS[16*p +: 16] / 2 + 1;
	endfunction

	// Index of the sign bit of a row: a row is one bit wider than its (signed) multiplicand, because a digit may be 2.
	function integer row_top(input integer p);
		row_top = B_WIDTHS[16*p +: 16] + (B_SIGNED[p] ? 0 : 1);
	endfunction

	// Tables of 16 bits per column: Yosys indexes a constant much faster than it evaluates a call.
	// Row bits of the products before p in each column.
	function [16*Y_WIDTH*(NPRODUCTS+1)-1:0] count_rows(input integer unused);
		integer p, i, first, last;
		begin
			count_rows = 0;
			for (p = 0; p < NPRODUCTS; p = p + 1)
				for (i = 0; i < Y_WIDTH; i = i + 1) begin
					first = i > row_top(p) ? (i - row_top(p) + 1) / 2 : 0;
					last = i / 2 < digits(p) ? i / 2 : digits(p) - 1;
					count_rows[16*(Y_WIDTH*(p+1) + i) +: 16] =
						count_rows[16*(Y_WIDTH*p + i) +: 16] + (last >= first ? last - first + 1 : 0);
				end
		end
	endfunction

	// Signs of the products before p in each column.
	function [16*Y_WIDTH*(NPRODUCTS+1)-1:0] count_signs(input integer unused);
		integer p, i;
		begin
			count_signs = 0;
			for (p = 0; p < NPRODUCTS; p = p + 1)
				for (i = 0; i < Y_WIDTH; i = i + 1)
					count_signs[16*(Y_WIDTH*(p+1) + i) +: 16] =
						count_signs[16*(Y_WIDTH*p + i) +: 16] + (i % 2 == 0 && i / 2 < digits(p) ? 1 : 0);
		end
	endfunction

	// Bits of the addends before k in each column.
	function [16*Y_WIDTH*(NADDENDS+1)-1:0] count_addends(input integer unused);
		integer k, i;
		begin
			count_addends = 0;
			for (k = 0; k < NADDENDS; k = k + 1)
				for (i = 0; i < Y_WIDTH; i = i + 1)
					count_addends[16*(Y_WIDTH*(k+1) + i) +: 16] =
						count_addends[16*(Y_WIDTH*k + i) +: 16] + (i < C_WIDTHS[16*k +: 16] ? 1 : 0);
		end
	endfunction

	localparam [16*Y_WIDTH*(NPRODUCTS+1)-1:0] ROWS_BEFORE = count_rows(0);
	localparam [16*Y_WIDTH*(NPRODUCTS+1)-1:0] SIGNS_BEFORE = count_signs(0);
	localparam [16*Y_WIDTH*(NADDENDS+1)-1:0] ADDENDS_BEFORE = count_addends(0);
	localparam [16*Y_WIDTH-1:0] SIGNS = SIGNS_BEFORE[16*Y_WIDTH*NPRODUCTS +: 16*Y_WIDTH];

	// Columns that the sum of the signs reaches: those that hold a sign or a carry.
	function [Y_WIDTH-1:0] find_reached(input integer unused);
		integer i, height;
		begin
			height = 0;
			for (i = 0; i < Y_WIDTH; i = i + 1) begin
				height = height + SIGNS[16*i +: 16];
				find_reached[i] = height > 0;
				height = height / 2;
			end
		end
	endfunction

	localparam [Y_WIDTH-1:0] REACHED = find_reached(0);

	function [16*Y_WIDTH-1:0] add_up(input integer unused);
		integer i;
		begin
			for (i = 0; i < Y_WIDTH; i = i + 1)
				add_up[16*i +: 16] = ROWS_BEFORE[16*(Y_WIDTH*NPRODUCTS + i) +: 16]
					+ ADDENDS_BEFORE[16*(Y_WIDTH*NADDENDS + i) +: 16] + REACHED[i];
		end
	endfunction

	function [Y_WIDTH-1:0] find_constant(input integer unused);
		integer k, d, width;
		begin
			find_constant = 0;
			for (k = 0; k < NPRODUCTS; k = k + 1)
				for (d = 0; d < digits(k); d = d + 1)
					find_constant = find_constant - (ONE << (2*d + row_top(k)));
			for (k = 0; k < NADDENDS; k = k + 1) begin
				width = C_WIDTHS[16*k +: 16];
				if (ADDEND_NEGATED[k])
					find_constant = find_constant + ONE;
				if (C_SIGNED[k] && width > 0 && width < Y_WIDTH)
					find_constant = find_constant - (ONE << (width - 1));
				if (!C_SIGNED[k] && ADDEND_NEGATED[k])
					find_constant = find_constant - (ONE << width);
			end
		end
	endfunction

	localparam STRIDE = total(A_WIDTHS, NPRODUCTS) + NPRODUCTS + NADDENDS + 1;
	wire [STRIDE*Y_WIDTH-1:0] bits, signs;
	wire [Y_WIDTH-1:0] sum_of_signs;
	\$__podweave_compress #(.COLUMNS(Y_WIDTH), .STRIDE(STRIDE), .HEIGHTS(SIGNS), .CONSTANT(ONE - ONE))
		compress_signs (.A(signs), .Y(sum_of_signs));
	\$__podweave_compress #(.COLUMNS(Y_WIDTH), .STRIDE(STRIDE), .HEIGHTS(add_up(0)), .CONSTANT(find_constant(0)))
		compress (.A(bits), .Y(Y));

	genvar p, d, j, k, i;
	generate
		for (p = 0; p < NPRODUCTS; p = p + 1) begin : product
			localparam AW = A_WIDTHS[16*p +: 16];
			localparam BW = B_WIDTHS[16*p +: 16];
			localparam TOP = row_top(p);
			localparam A_AT = total(A_WIDTHS, p);
			localparam B_AT = total(B_WIDTHS, p);
			wire [AW+2:0] a = {{2{A_SIGNED[p] ? A[A_AT+AW-1] : 1'b0}}, A[A_AT +: AW], 1'b0};
			wire [BW+2:0] b = {{2{B_SIGNED[p] ? B[B_AT+BW-1] : 1'b0}}, B[B_AT +: BW], 1'b0};
			for (d = 0; d < digits(p) && 2*d < Y_WIDTH; d = d + 1) begin : row
				wire one = a[2*d+1] ^ a[2*d];
				wire two = ~one & (a[2*d+2] ^ a[2*d+1]);
				wire negative = a[2*d+2] ^ PRODUCT_NEGATED[p];
				for (j = 0; j <= TOP && 2*d + j < Y_WIDTH; j = j + 1) begin : digit
					localparam ABOVE = (TOP - j) / 2 < d ? (TOP - j) / 2 : d;
					wire magnitude = (one & b[j+1]) | (two & b[j]);
					assign bits[STRIDE*(2*d+j) + ROWS_BEFORE[16*(Y_WIDTH*p + 2*d+j) +: 16] + ABOVE] =
						magnitude ^ negative ^ (j == TOP);
				end
				assign signs[STRIDE*2*d + SIGNS_BEFORE[16*(Y_WIDTH*p + 2*d) +: 16]] = negative;
			end
		end
		for (k = 0; k < NADDENDS; k = k + 1) begin : addend
			localparam CW = C_WIDTHS[16*k +: 16];
			localparam C_AT = total(C_WIDTHS, k);
			for (i = 0; i < CW && i < Y_WIDTH; i = i + 1)
				assign bits[STRIDE*i + ROWS_BEFORE[16*(Y_WIDTH*NPRODUCTS + i) +: 16]
					+ ADDENDS_BEFORE[16*(Y_WIDTH*k + i) +: 16]] =
					C[C_AT+i] ^ ADDEND_NEGATED[k] ^ (C_SIGNED[k] && CW < Y_WIDTH && i == CW - 1);
		end
		for (i = 0; i < Y_WIDTH; i = i + 1)
			if (REACHED[i])
				assign bits[STRIDE*i + ROWS_BEFORE[16*(Y_WIDTH*NPRODUCTS + i) +: 16]
					+ ADDENDS_BEFORE[16*(Y_WIDTH*NADDENDS + i) +: 16]] = sum_of_signs[i];
	endgenerate
endmodule

// Y = CONSTANT + the bits of column i, times 2^i; column i holds its HEIGHTS[i] bits from A[STRIDE*i] on.
(* techmap_celltype = "$__podweave_compress" *)
module _80_podweave_compress (A, Y);
	parameter COLUMNS = 1;
	parameter STRIDE = 1;
	parameter [16*COLUMNS-1:0] HEIGHTS = 0;
	parameter [COLUMNS-1:0] CONSTANT = 0;
	input [STRIDE*COLUMNS-1:0] A;
	output [COLUMNS-1:0] Y;

	// Bits of each column with the carries of the column below.
	function [16*COLUMNS-1:0] with_carries(input integer unused);
		integer i, height, adders;
		begin
			height = 0;
			for (i = 0; i < COLUMNS; i = i + 1) begin
				height = height + HEIGHTS[16*i +: 16];
				with_carries[16*i +: 16] = height;
				adders = height > 0 ? (height - 1) / 2 : 0;
				height = adders + (height - 2*adders + CONSTANT[i] >= 2 ? 1 : 0);
			end
		end
	endfunction

	localparam [16*COLUMNS-1:0] TOTAL = with_carries(0);
	// A queue holds the bits of its column, the carries from below, then the sums of its adders, which take three each.
	localparam QUEUE = 3*STRIDE;
	wire [QUEUE*(COLUMNS+1)-1:0] queue;

	genvar i, f;
	generate
		for (i = 0; i < COLUMNS; i = i + 1) begin : column
			localparam OWN = HEIGHTS[16*i +: 16];
			localparam ALL = TOTAL[16*i +: 16];
			localparam ADDERS = ALL > 0 ? (ALL - 1) / 2 : 0;
			localparam LEFT = QUEUE*i + 3*ADDERS;
			localparam UP = QUEUE*(i+1) + (i + 1 < COLUMNS ? HEIGHTS[16*(i + 1 < COLUMNS ? i + 1 : i) +: 16] : 0);
			if (OWN > 0)
				assign queue[QUEUE*i +: OWN] = A[STRIDE*i +: OWN];
			for (f = 0; f < ADDERS; f = f + 1) begin : adder
				\$fa #(.WIDTH(1)) fa (
					.A(queue[QUEUE*i + 3*f]), .B(queue[QUEUE*i + 3*f+1]), .C(queue[QUEUE*i + 3*f+2]),
					.Y(queue[QUEUE*i + ALL + f]), .X(queue[UP + f]));
			end
			if (ALL == 0) begin : none
				assign Y[i] = CONSTANT[i];
			end else if (ALL - 2*ADDERS == 1) begin : single
				assign Y[i] = queue[LEFT] ^ CONSTANT[i];
				if (CONSTANT[i])
					assign queue[UP + ADDERS] = queue[LEFT];
			end else begin : pair
				assign Y[i] = queue[LEFT] ^ queue[LEFT+1] ^ CONSTANT[i];
				assign queue[UP + ADDERS] = CONSTANT[i] ? queue[LEFT] | queue[LEFT+1] : queue[LEFT] & queue[LEFT+1];
			end
		end
	endgenerate
endmodule
