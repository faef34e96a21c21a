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

// As of `LinkRate`; ``restart``: the chip that sends starts.
module ring_link #(parameter int BITS = 32) (
  input wire clk, rst, restart,
  input wire [15:0] latency, beat, jitter,
  input wire [31:0] seed,
  input wire tx_valid,
  output wire tx_ready,
  input wire [BITS+21:0] tx_flit,
  output reg tx_credit,
  output reg [3:0] tx_credit_run,
  output reg rx_valid,
  output reg [BITS+21:0] rx_flit,
  input wire rx_credit,
  input wire [3:0] rx_credit_run
);
  longint unsigned now, next16, arrival;
  logic [31:0] random;
  logic [BITS+21:0] flits [0:1023];
  longint unsigned arrivals [0:1023], credit_arrivals [0:1023];
  logic [3:0] credits [0:1023];
  logic [9:0] first, last, credit_first, credit_last;
  assign tx_ready = next16 <= (now << 4) + 15;
  always_ff @(posedge clk) begin
    now <= now + 1;
    rx_valid <= 0;
    tx_credit <= 0;
    if (rst) begin
      now <= 0;
      next16 <= 0;
      {arrival, random, first, last, credit_first, credit_last} = '0;
    end else begin
      if (tx_valid & tx_ready) begin
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        arrival += 1;
        if (arrival < now + 64'(latency) + ((64'(random) * (64'(jitter) + 1)) >> 32))
          arrival = now + 64'(latency) + ((64'(random) * (64'(jitter) + 1)) >> 32);
        flits[last] = tx_flit;
        arrivals[last] = arrival;
        last += 1;
        next16 <= (next16 > now << 4 ? next16 : now << 4) + 64'(beat);
      end
      if (rx_credit) begin
        credits[credit_last] = rx_credit_run;
        credit_arrivals[credit_last] = now + 64'(latency);
        credit_last += 1;
      end
      if (first != last && arrivals[first] <= now + 1) begin
        rx_valid <= 1;
        rx_flit <= flits[first];
        first += 1;
      end
      if (credit_first != credit_last && credit_arrivals[credit_first] <= now + 1) begin
        tx_credit <= 1;
        tx_credit_run <= credits[credit_first];
        credit_first += 1;
      end
      if (restart) random = seed;
    end
  end
endmodule
