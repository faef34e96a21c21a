// A host that plays back a table of register accesses on an AXI4-Lite port, one after the other.
module host #(
  parameter int OFFSET_BITS = 12,
  parameter int ACCESSES = 1024
) (
  input logic clk,
  input logic rst,
  // Level: the accesses are played back once while it is high, the first after `delay` cycles of it.
  input logic go,
  output logic played,
  output logic [OFFSET_BITS-1:0] awaddr, araddr,
  output logic awvalid, wvalid, arvalid,
  input logic awready, wready, arready,
  output logic [31:0] wdata,
  input logic [1:0] bresp, rresp,
  input logic bvalid, rvalid,
  input logic [31:0] rdata
);
  localparam int INDEX_BITS = $clog2(ACCESSES) + 1;

  // By access: whether it writes (bit 63), byte offset, value.
  logic [63:0] accesses [0:ACCESSES-1] /*verilator public_flat_rw*/;
  // By access: response, value read.
  logic [63:0] results [0:ACCESSES-1] /*verilator public_flat_rw*/;
  logic [31:0] access_count [0:0] /*verilator public_flat_rw*/;
  logic [31:0] delay [0:0] /*verilator public_flat_rw*/;

  logic [INDEX_BITS-1:0] index;
  logic [31:0] waited;
  logic aw_sent, w_sent, ar_sent;
  wire [63:0] now = accesses[index[INDEX_BITS-2:0]];
  wire active = go && waited >= delay[0] && 32'(index) < access_count[0];
  assign played = go && 32'(index) == access_count[0];
  assign awaddr = now[32+:OFFSET_BITS];
  assign araddr = now[32+:OFFSET_BITS];
  assign wdata = now[31:0];
  assign awvalid = active & now[63] & ~aw_sent;
  assign wvalid = active & now[63] & ~w_sent;
  assign arvalid = active & ~now[63] & ~ar_sent;
  always_ff @(posedge clk) begin
    waited <= rst | ~go ? 0 : waited + 1;
    if (rst | ~go) {index, aw_sent, w_sent, ar_sent} <= '0;
    else if (bvalid | rvalid) begin
      results[index[INDEX_BITS-2:0]] <= {30'b0, bvalid ? {bresp, 32'b0} : {rresp, rdata}};
      {aw_sent, w_sent, ar_sent} <= '0;
      index <= index + 1;
    end else if (active) begin
      if (awready & now[63]) aw_sent <= 1;
      if (wready & now[63]) w_sent <= 1;
      if (arready & ~now[63]) ar_sent <= 1;
    end
  end
endmodule
