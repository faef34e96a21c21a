// A chip and a host that plays back a table of accesses, one per cycle, and keeps what they return.
// Nothing outside the simulation acts per cycle; Python fills and reads the tables in bulk.
module chip_harness #(
  parameter int SELECT_BITS = 1,
  parameter int UNIT_BITS = 1,
  parameter int ADDRESS_BITS = 1,
  parameter int BEAT_BITS = 1,
  parameter int READ_LATENCY = 1,
  parameter int ACCESSES = 16384
) (
  input logic clk,
  input logic rst,
  // Level: the accesses are played back once while it is high.
  input logic go
);
  localparam int DATA_BITS = 64;
  localparam int INDEX_BITS = $clog2(ACCESSES) + 1;

  // By access: data, address, unit, select, beat, and whether it writes (bit 0) and commits (bit 1).
  logic [DATA_BITS+5*32-1:0] accesses [0:ACCESSES-1] /*verilator public_flat_rw*/;
  logic [DATA_BITS-1:0] results [0:ACCESSES-1] /*verilator public_flat_rw*/;
  logic [31:0] access_count [0:0] /*verilator public_flat_rw*/;
  // Busy, error, cycles.
  logic [31:0] status [0:2] /*verilator public_flat_rw*/;

  logic [31:0] index;
  always_ff @(posedge clk) index <= (go & ~rst) ? (index == '1 ? index : index + 1) : 0;
  wire active = go && index < access_count[0];
  wire [DATA_BITS+5*32-1:0] now = accesses[index[INDEX_BITS-2:0]];
  wire [31:0] due = index - READ_LATENCY;

  wire busy, error;
  wire [31:0] cycles;
  wire [DATA_BITS-1:0] host_read_data;
  chip chip (
    .clk, .rst,
    .host_valid(active & ~rst),
    .host_write(now[0]), .host_commit(now[1]),
    .host_beat(now[32+:BEAT_BITS]), .host_select(now[64+:SELECT_BITS]), .host_unit(now[96+:UNIT_BITS]),
    .host_address(now[128+:ADDRESS_BITS]), .host_data(now[160+:DATA_BITS]),
    .host_read_data, .busy, .error, .cycles);

  always_ff @(posedge clk) begin
    if (go && index >= READ_LATENCY && due < access_count[0]) results[due[INDEX_BITS-2:0]] <= host_read_data;
    status[0] <= 32'(busy);
    status[1] <= 32'(error);
    status[2] <= cycles;
  end
endmodule
