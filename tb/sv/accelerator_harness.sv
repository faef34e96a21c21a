// One accelerator or several, a channel of HBM for each of their AXI4 managers, a host for each that plays back register accesses,
// and links that make them a ring. Nothing outside the simulation acts per cycle; Python fills and reads the tables in bulk.
//
// Two macros are written for the design (tb/benches/system_bench.py, tb/benches/design_bench.py): `DESIGN is its instance, with
// port m<j>_axi_<name> of chip i connected to <name>[MANAGERS * i + j] and its other ports to those of index i below; `TAPS are
// signals in the design, here whether a run starts the engines, of chip 0 in the lowest bit.
module accelerator_harness #(
  parameter int CHIPS = 1,
  // Of each chip.
  parameter int MANAGERS = 1,
  parameter int DATA_BITS = 64,
  parameter int ADDRESS_BITS = 32,
  parameter int OFFSET_BITS = 12,
  parameter int ACCESSES = 1024,
  // Whether the chips have links.
  parameter int LINKS = 0,
  parameter int FLIT_BITS = 32,
  parameter int USER_BITS = 6
) (
  input logic clk,
  // By chip: its reset, with which its memory forgets what is under way. Links are reset when all chips are.
  input logic [CHIPS-1:0] rst,
  // By chip.
  input logic [CHIPS-1:0] go,
  // By chip: `raised` waits for it.
  input logic [CHIPS-1:0] awaited
);
  localparam int PORTS = CHIPS * MANAGERS;

  // By chip. One cycle late: outputs of the harness, and what is read of it, come from registers.
  logic [CHIPS-1:0] irq /*verilator public_flat_rw*/;
  // All chips that are awaited have raised their interrupt.
  logic raised /*verilator public_flat_rw*/;
  // All hosts that may go have played their accesses.
  logic played /*verilator public_flat_rw*/;
  // What each manager did against the rules of AXI4, as its channel has it, and what each transmitter did against those of links.
  logic [31:0] violations [0:PORTS-1] /*verilator public_flat_rw*/;
  logic [31:0] link_violations [0:CHIPS-1] /*verilator public_flat_rw*/;

  wire [CHIPS-1:0] interrupt, all_played;
  always_ff @(posedge clk) irq <= interrupt;
  assign raised = &(irq | ~awaited);
  assign played = &(all_played | ~go);

  wire [OFFSET_BITS-1:0] lite_awaddr [CHIPS], lite_araddr [CHIPS];
  wire lite_awvalid [CHIPS], lite_awready [CHIPS], lite_wvalid [CHIPS], lite_wready [CHIPS], lite_bvalid [CHIPS];
  wire lite_arvalid [CHIPS], lite_arready [CHIPS], lite_rvalid [CHIPS];
  wire [31:0] lite_wdata [CHIPS], lite_rdata [CHIPS];
  wire [1:0] lite_bresp [CHIPS], lite_rresp [CHIPS];

  wire awid [PORTS], awvalid [PORTS], awready [PORTS], wlast [PORTS], wvalid [PORTS], wready [PORTS];
  wire bid [PORTS], bvalid [PORTS], bready [PORTS];
  wire arid [PORTS], arvalid [PORTS], arready [PORTS];
  wire rid [PORTS], rlast [PORTS], rvalid [PORTS], rready [PORTS];
  wire [ADDRESS_BITS-1:0] awaddr [PORTS], araddr [PORTS];
  wire [7:0] awlen [PORTS], arlen [PORTS];
  wire [2:0] awsize [PORTS], arsize [PORTS];
  wire [1:0] awburst [PORTS], arburst [PORTS], bresp [PORTS], rresp [PORTS];
  wire [DATA_BITS-1:0] wdata [PORTS], rdata [PORTS];
  wire [DATA_BITS/8-1:0] wstrb [PORTS];

  // Each has that of the link between it and the next chip (tx), and between it and the one before (rx).
  wire link_tx_valid [CHIPS], link_tx_ready [CHIPS], link_tx_credit [CHIPS], link_tx_up [CHIPS];
  wire link_rx_valid [CHIPS], link_rx_credit [CHIPS], link_rx_up [CHIPS];
  wire [FLIT_BITS-1:0] link_tx_data [CHIPS], link_rx_data [CHIPS];
  wire [USER_BITS-1:0] link_tx_user [CHIPS], link_rx_user [CHIPS];
  wire [15:0] link_tx_crc [CHIPS], link_rx_crc [CHIPS];
  wire [3:0] link_tx_credit_run [CHIPS], link_rx_credit_run [CHIPS];

  `DESIGN

  // Time 0 of the channels of a chip is the cycle after the one in which a run starts its engines, whenever the host started it.
  wire [CHIPS-1:0] restart = `TAPS;
  for (genvar i = 0; i < CHIPS; i++) begin : hosts
    host #(.OFFSET_BITS(OFFSET_BITS), .ACCESSES(ACCESSES)) host (
      .clk, .rst(rst[i]), .go(go[i]), .played(all_played[i]),
      .awaddr(lite_awaddr[i]), .awvalid(lite_awvalid[i]), .awready(lite_awready[i]),
      .wdata(lite_wdata[i]), .wvalid(lite_wvalid[i]), .wready(lite_wready[i]), .bresp(lite_bresp[i]), .bvalid(lite_bvalid[i]),
      .araddr(lite_araddr[i]), .arvalid(lite_arvalid[i]), .arready(lite_arready[i]),
      .rdata(lite_rdata[i]), .rresp(lite_rresp[i]), .rvalid(lite_rvalid[i]));
  end
  for (genvar i = 0; i < PORTS; i++) begin : channels
    wire [5:0] violation;
    hbm_channel #(.DATA_WIDTH(DATA_BITS), .ADDRESS_WIDTH(ADDRESS_BITS), .ID_WIDTH(1)) memory (
      .clk, .rst(rst[i/MANAGERS]), .restart(restart[i/MANAGERS]),
      .awid(awid[i]), .awaddr(awaddr[i]), .awlen(awlen[i]), .awsize(awsize[i]), .awburst(awburst[i]), .awvalid(awvalid[i]),
      .awready(awready[i]), .wdata(wdata[i]), .wstrb(wstrb[i]), .wlast(wlast[i]), .wvalid(wvalid[i]), .wready(wready[i]),
      .bid(bid[i]), .bresp(bresp[i]), .bvalid(bvalid[i]), .bready(bready[i]),
      .arid(arid[i]), .araddr(araddr[i]), .arlen(arlen[i]), .arsize(arsize[i]), .arburst(arburst[i]), .arvalid(arvalid[i]),
      .arready(arready[i]), .rid(rid[i]), .rdata(rdata[i]), .rresp(rresp[i]), .rlast(rlast[i]), .rvalid(rvalid[i]),
      .rready(rready[i]), .violation);
    always_ff @(posedge clk) violations[i] <= 32'(violation);
  end
  for (genvar i = 0; i < LINKS * CHIPS; i++) begin : links
    localparam int NEXT = (i + 1) % CHIPS;
    wire violation;
    link #(.FLIT_BITS(FLIT_BITS), .USER_BITS(USER_BITS)) link (
      .clk, .rst(&rst), .restart(restart[i]), .tx_rst(rst[i]),
      .tx_valid(link_tx_valid[i]), .tx_ready(link_tx_ready[i]), .tx_data(link_tx_data[i]), .tx_user(link_tx_user[i]),
      .tx_crc(link_tx_crc[i]), .tx_credit(link_tx_credit[i]), .tx_credit_run(link_tx_credit_run[i]),
      .rx_valid(link_rx_valid[NEXT]), .rx_data(link_rx_data[NEXT]), .rx_user(link_rx_user[NEXT]), .rx_crc(link_rx_crc[NEXT]),
      .rx_credit(link_rx_credit[NEXT]), .rx_credit_run(link_rx_credit_run[NEXT]),
      .up(link_tx_up[i]), .violation);
    assign link_rx_up[NEXT] = link_tx_up[i];
    always_ff @(posedge clk) link_violations[i] <= 32'(violation);
  end
endmodule
