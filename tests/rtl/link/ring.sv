// A read in cycle t finds what was written up to cycle t - 2; ``found`` one cycle later, 0 in all other cycles.
module ring_bank #(parameter int CHIP = 0, LANES = 1, BITS = 8, UNITS = 1, WORDS = 1) (
  input wire clk, rst, valid, write, add,
  input wire [15:0] unit, address,
  input wire [LANES*BITS-1:0] data,
  output reg [LANES*BITS-1:0] found,
  input wire [15:0] peek_unit, peek_address,
  output wire [LANES*BITS-1:0] peek
);
  reg [LANES*BITS-1:0] words [0:UNITS*WORDS-1];
  reg pending, adds;
  int place, at;
  reg [LANES*BITS-1:0] held;
  logic [31:0] where;
  assign peek = words[32'(peek_unit) * WORDS + 32'(peek_address)];
  assign at = 32'(unit) * WORDS + 32'(address);
  always_ff @(posedge clk) begin
    if (rst)
      for (int u = 0; u < UNITS; u++)
        for (int a = 0; a < WORDS; a++)
          for (int lane = 0; lane < LANES; lane++) begin
            where = (CHIP << 24) ^ (u << 16) ^ (a << 6) ^ lane;
            words[u * WORDS + a][lane*BITS +: BITS] <= BITS'(where * 32'h9E3779B1 + (where >> 3) * 32'h01000193);
          end
    else begin
      pending <= valid & write;
      {adds, place, held} <= {add, at, data};
      if (pending)
        for (int lane = 0; lane < LANES; lane++)
          words[place][lane*BITS +: BITS] <= held[lane*BITS +: BITS] + (adds ? words[place][lane*BITS +: BITS] : '0);
      found <= valid & ~write ? words[at] : '0;
    end
    if (rst) pending <= 0;
  end
endmodule

module ring_delay #(parameter int BITS = 8, CYCLES = 1) (input wire clk, rst, input wire [BITS-1:0] in, output wire [BITS-1:0] out);
  reg [BITS-1:0] line [0:CYCLES-1];
  assign out = line[CYCLES-1];
  always_ff @(posedge clk) begin
    line[0] <= in;
    for (int i = 1; i < CYCLES; i++) line[i] <= line[i-1];
  end
endmodule
