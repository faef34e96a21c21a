// An accelerator, a channel of HBM for each of its AXI4 managers, and a host that plays back a table of register accesses.
// Nothing outside the simulation acts per cycle; Python fills and reads the tables in bulk. `MANAGER_PORTS, from a file that is
// written for the configuration (tb/benches/accelerator_bench.py), connects each port m<i>_axi_<name> to <name>[i].
module accelerator_harness #(
  parameter int MANAGERS = 1,
  parameter int DATA_BITS = 64,
  parameter int ADDRESS_BITS = 32,
  parameter int OFFSET_BITS = 12,
  parameter int ACCESSES = 1024
) (
  input logic clk,
  input logic rst,
  // Level: the accesses are played back once, one after the other, while it is high.
  input logic go
);
  localparam int INDEX_BITS = $clog2(ACCESSES) + 1;

  // By access: whether it writes (bit 63), byte offset, value.
  logic [63:0] accesses [0:ACCESSES-1] /*verilator public_flat_rw*/;
  // By access: response, value read.
  logic [63:0] results [0:ACCESSES-1] /*verilator public_flat_rw*/;
  logic [31:0] access_count [0:0] /*verilator public_flat_rw*/;
  logic played /*verilator public_flat_rw*/;
  // One cycle late: outputs of the harness, and what is read of it, come from registers.
  logic irq /*verilator public_flat_rw*/;
  // What each manager did against the rules of AXI4, as its channel has it.
  logic [31:0] violations [0:MANAGERS-1] /*verilator public_flat_rw*/;

  logic [INDEX_BITS-1:0] index;
  logic aw_sent, w_sent, ar_sent;
  wire [63:0] now = accesses[index[INDEX_BITS-2:0]];
  wire lite_awready, lite_wready, lite_arready, lite_bvalid, lite_rvalid;
  wire [1:0] lite_bresp, lite_rresp;
  wire [31:0] lite_rdata;
  wire active = go && 32'(index) < access_count[0];
  assign played = go && 32'(index) == access_count[0];
  always_ff @(posedge clk) begin
    if (rst | ~go) {index, aw_sent, w_sent, ar_sent} <= '0;
    else if (lite_bvalid | lite_rvalid) begin
      results[index[INDEX_BITS-2:0]] <= {30'b0, lite_bvalid ? {lite_bresp, 32'b0} : {lite_rresp, lite_rdata}};
      {aw_sent, w_sent, ar_sent} <= '0;
      index <= index + 1;
    end else if (active) begin
      if (lite_awready & now[63]) aw_sent <= 1;
      if (lite_wready & now[63]) w_sent <= 1;
      if (lite_arready & ~now[63]) ar_sent <= 1;
    end
  end

  wire awid [MANAGERS], awvalid [MANAGERS], awready [MANAGERS], wlast [MANAGERS], wvalid [MANAGERS], wready [MANAGERS];
  wire bid [MANAGERS], bvalid [MANAGERS], bready [MANAGERS];
  wire arid [MANAGERS], arvalid [MANAGERS], arready [MANAGERS];
  wire rid [MANAGERS], rlast [MANAGERS], rvalid [MANAGERS], rready [MANAGERS];
  wire [ADDRESS_BITS-1:0] awaddr [MANAGERS], araddr [MANAGERS];
  wire [7:0] awlen [MANAGERS], arlen [MANAGERS];
  wire [2:0] awsize [MANAGERS], arsize [MANAGERS];
  wire [1:0] awburst [MANAGERS], arburst [MANAGERS], bresp [MANAGERS], rresp [MANAGERS];
  wire [DATA_BITS-1:0] wdata [MANAGERS], rdata [MANAGERS];
  wire [DATA_BITS/8-1:0] wstrb [MANAGERS];

  `LINK_WIRES
  wire interrupt;
  always_ff @(posedge clk) irq <= interrupt;
  accelerator accelerator (
    .clk, .rst, .irq(interrupt),
    .s_axil_awaddr(now[32+:OFFSET_BITS]), .s_axil_awprot(3'b0), .s_axil_awvalid(active & now[63] & ~aw_sent),
    .s_axil_awready(lite_awready),
    .s_axil_wdata(now[31:0]), .s_axil_wstrb(4'hf), .s_axil_wvalid(active & now[63] & ~w_sent), .s_axil_wready(lite_wready),
    .s_axil_bresp(lite_bresp), .s_axil_bvalid(lite_bvalid), .s_axil_bready(1'b1),
    .s_axil_araddr(now[32+:OFFSET_BITS]), .s_axil_arprot(3'b0), .s_axil_arvalid(active & ~now[63] & ~ar_sent),
    .s_axil_arready(lite_arready),
    .s_axil_rdata(lite_rdata), .s_axil_rresp(lite_rresp), .s_axil_rvalid(lite_rvalid), .s_axil_rready(1'b1),
    `MANAGER_PORTS
  );

  // Time 0 of the channels is the cycle after the one in which a run starts the engines, whenever the host started it.
  wire restart = accelerator.control__engine_start;
  for (genvar i = 0; i < MANAGERS; i++) begin : channels
    wire [5:0] violation;
    hbm_channel #(.DATA_WIDTH(DATA_BITS), .ADDRESS_WIDTH(ADDRESS_BITS), .ID_WIDTH(1)) memory (
      .clk, .rst, .restart,
      .awid(awid[i]), .awaddr(awaddr[i]), .awlen(awlen[i]), .awsize(awsize[i]), .awburst(awburst[i]), .awvalid(awvalid[i]),
      .awready(awready[i]), .wdata(wdata[i]), .wstrb(wstrb[i]), .wlast(wlast[i]), .wvalid(wvalid[i]), .wready(wready[i]),
      .bid(bid[i]), .bresp(bresp[i]), .bvalid(bvalid[i]), .bready(bready[i]),
      .arid(arid[i]), .araddr(araddr[i]), .arlen(arlen[i]), .arsize(arsize[i]), .arburst(arburst[i]), .arvalid(arvalid[i]),
      .arready(arready[i]), .rid(rid[i]), .rdata(rdata[i]), .rresp(rresp[i]), .rlast(rlast[i]), .rvalid(rvalid[i]),
      .rready(rready[i]), .violation);
    always_ff @(posedge clk) violations[i] <= 32'(violation);
  end
endmodule
