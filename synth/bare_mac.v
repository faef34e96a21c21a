// The unit that arrays are compared with: one registered int8 multiply-accumulate with a 32-bit accumulator.
// It has neither reset nor operand registers, so it is smaller than the cell of any real array: a conservative unit.
module bare_mac (
	input clk,
	input signed [7:0] a,
	input signed [7:0] b,
	output reg signed [31:0] acc
);
	always @(posedge clk)
		acc <= acc + a * b;
endmodule
