// A chip and a host that plays back a table of accesses, one per cycle, and keeps what they return.
// Nothing outside the simulation acts per cycle; Python fills and reads the tables in bulk.
module chip_harness #(
  parameter int MANAGERS = 1,
  parameter int DATA_BITS = 64,
  parameter int SELECT_BITS = 1,
  parameter int UNIT_BITS = 1,
  parameter int ADDRESS_BITS = 1,
  parameter int BEAT_BITS = 1,
  parameter int NETWORK_ERROR_BITS = 1,
  parameter int READ_LATENCY = 1,
  parameter int ACCESSES = 16384
) (
  input logic clk,
  input logic rst,
  // Level: the accesses are played back once while it is high.
  input logic go,
  // Of the chip, for one epoch.
  input logic start,
  input logic rewind
);
  localparam int INDEX_BITS = $clog2(ACCESSES) + 1;

  // By access: data, address, unit, manager, select, beat, and whether it writes (bit 0), commits (bit 1), is for all units (bit 2).
  logic [DATA_BITS+6*32-1:0] accesses [0:ACCESSES-1] /*verilator public_flat_rw*/;
  logic [DATA_BITS-1:0] results [0:ACCESSES-1] /*verilator public_flat_rw*/;
  logic [31:0] access_count [0:0] /*verilator public_flat_rw*/;
  // Busy, error, cycles, network error.
  logic [31:0] status [0:3] /*verilator public_flat_rw*/;

  logic [31:0] index;
  always_ff @(posedge clk) index <= (go & ~rst) ? (index == '1 ? index : index + 1) : 0;
  wire active = go && index < access_count[0];
  wire [DATA_BITS+6*32-1:0] now = accesses[index[INDEX_BITS-2:0]];
  wire [31:0] due = index - READ_LATENCY;
  wire [31:0] manager_due = accesses[due[INDEX_BITS-2:0]][96+:32];

  wire busy, error;
  wire [31:0] cycles;
  wire [NETWORK_ERROR_BITS-1:0] network_error;
  wire [MANAGERS-1:0] host_valid = MANAGERS'(active & ~rst) << now[96+:32];
  wire [MANAGERS*DATA_BITS-1:0] host_read_data;
  chip chip (
    .clk, .rst,
    .host_valid,
    .host_write({MANAGERS{now[0]}}), .host_commit({MANAGERS{now[1]}}), .host_broadcast({MANAGERS{now[2]}}),
    .host_beat({MANAGERS{now[32+:BEAT_BITS]}}), .host_select({MANAGERS{now[64+:SELECT_BITS]}}),
    .host_unit({MANAGERS{now[128+:UNIT_BITS]}}), .host_address({MANAGERS{now[160+:ADDRESS_BITS]}}),
    .host_data({MANAGERS{now[192+:DATA_BITS]}}), .host_read_data,
    .start(start & ~rst), .epochs(32'd1), .rewind(rewind & ~rst), .hold(1'b0),
    .busy, .error, .cycles, .total_cycles(), .done(), .network_error);

  always_ff @(posedge clk) begin
    if (go && index >= READ_LATENCY && due < access_count[0])
      results[due[INDEX_BITS-2:0]] <= host_read_data[manager_due*DATA_BITS+:DATA_BITS];
    status[0] <= 32'(busy);
    status[1] <= 32'(error);
    status[2] <= cycles;
    status[3] <= 32'(network_error);
  end
endmodule
