// A prefetch engine between memory and a load port. The memory is the one in here (`internal`) or whatever drives the m_axi_*
// inputs. The load port is answered by a function of what is read. All ports of the engine are recorded, one row per cycle.
//
// The memory in here answers in order: a burst accepted in cycle t has its first beat on R in cycle t + LATENCY at the earliest,
// then one per cycle; a response is on B LATENCY cycles after the last beat on W was accepted. Each channel stalls in a cycle with
// a chance of its STALL / 256. Beats in [ERROR_FIRST, ERROR_BEYOND) get ERROR_RESPONSE, and writes to them are lost.
module prefetch_harness #(
  parameter int DATA = 128,
  parameter int ADDRESS = 40,
  parameter int HOST_ADDRESS = 12,
  parameter int HOST_BEAT = 3,
  parameter int HOST_UNIT = 1,
  parameter int READ_LATENCY = 5,
  parameter int MEMORY_BEATS = 4096,
  parameter int ROWS = 4096
) (
  input logic clk, rst,
  input logic internal,
  input logic start, stop, enable,
  input logic [31:0] cap,
  input logic [ADDRESS:0] memory_bytes,
  input logic [15:0] epochs_given,
  input logic gap_given,
  input logic [ADDRESS-1:0] demand_base, prefetch_base,
  input logic [31:0] demand_size, prefetch_size, demand_tail, prefetch_tail,
  input logic cancel_valid,
  input logic [15:0] cancel_tag,
  output logic quiet,
  output logic settled,  // quiet for more cycles than an epoch has
  output logic [15:0] demand_complete, prefetch_complete,
  output logic [0:0] m_axi_awid, m_axi_arid,
  output logic [ADDRESS-1:0] m_axi_awaddr, m_axi_araddr,
  output logic [7:0] m_axi_awlen, m_axi_arlen,
  output logic [2:0] m_axi_awsize, m_axi_arsize,
  output logic [1:0] m_axi_awburst, m_axi_arburst,
  output logic m_axi_awvalid, m_axi_arvalid,
  input logic m_axi_awready, m_axi_arready,
  output logic [DATA-1:0] m_axi_wdata,
  output logic [DATA/8-1:0] m_axi_wstrb,
  output logic m_axi_wlast, m_axi_wvalid,
  input logic m_axi_wready,
  input logic [0:0] m_axi_bid, m_axi_rid,
  input logic [1:0] m_axi_bresp, m_axi_rresp,
  input logic m_axi_bvalid, m_axi_rvalid, m_axi_rlast,
  output logic m_axi_bready, m_axi_rready,
  input logic [DATA-1:0] m_axi_rdata
);
  localparam int BYTES = DATA / 8, SIZE = $clog2(BYTES);
  localparam int LATENCY = 0, STALL_AR = 1, STALL_R = 2, STALL_AW = 3, STALL_W = 4, STALL_B = 5, SEED = 6, EPOCH_CYCLES = 7,
    ERROR_FIRST = 8, ERROR_BEYOND = 9, ERROR_RESPONSE = 10, AW_AFTER_W = 11, EPOCHS = 12;
  logic [31:0] settings [0:15] /*verilator public_flat_rw*/;
  logic [DATA-1:0] memory [0:MEMORY_BEATS-1] /*verilator public_flat_rw*/;
  localparam int QUEUE = 512;

  logic [63:0] now;
  always_ff @(posedge clk) now <= rst ? 0 : now + 1;

  // Epochs: with EPOCHS set, an epoch is on for EPOCH_CYCLES as soon as its tag is complete in both rings.
  logic [15:0] epochs_done;
  logic gap, epoch;
  logic [31:0] epoch_left;
  logic [15:0] epochs_counted;
  assign epochs_done = settings[EPOCHS] != 0 ? epochs_counted : epochs_given;
  assign gap = settings[EPOCHS] != 0 ? !epoch : gap_given;
  always_ff @(posedge clk)
    if (rst || start) {epochs_counted, epoch} <= 0;
    else if (epoch) begin
      epoch_left <= epoch_left - 1;
      if (epoch_left == 0) begin
        epoch <= 0;
        epochs_counted <= epochs_counted + 1;
      end
    end else if (32'(epochs_counted) < settings[EPOCHS] && demand_complete > epochs_counted && prefetch_complete > epochs_counted) begin
      epoch <= 1;
      epoch_left <= settings[EPOCH_CYCLES];
    end

  logic [31:0] quiet_cycles;
  assign settled = quiet_cycles > 50 + settings[EPOCH_CYCLES];
  always_ff @(posedge clk) quiet_cycles <= rst || start || !quiet ? 0 : quiet_cycles + 1;

  function automatic logic [31:0] following(input logic [31:0] x);
    logic [31:0] y;
    y = x ^ (x << 13);
    y = y ^ (y >> 17);
    return y ^ (y << 5);
  endfunction

  // One bit per channel: it stalls in this cycle.
  logic [31:0] random;
  logic [4:0] stalls;
  always_comb begin
    logic [31:0] x;
    x = random;
    for (int i = 0; i < 5; i++) begin
      x = following(x);
      stalls[i] = {24'b0, x[15:8]} < settings[STALL_AR+i];
    end
  end
  always_ff @(posedge clk) random <= rst ? settings[SEED] | 1 : following(random ^ 32'h9e3779b9) | 1;

  function automatic logic [1:0] response(input logic [63:0] beat_address);
    return beat_address >= 64'(settings[ERROR_FIRST]) && beat_address < 64'(settings[ERROR_BEYOND]) ? settings[ERROR_RESPONSE][1:0] : 2'b0;
  endfunction

  // Reads.
  logic [63:0] read_address [0:QUEUE-1], read_time [0:QUEUE-1];
  logic [7:0] read_length [0:QUEUE-1];
  logic [8:0] read_in, read_out;
  logic [7:0] read_beat;
  logic arready, rvalid, rlast;
  logic [1:0] rresp;
  logic [DATA-1:0] rdata;
  wire [63:0] beat_address = (read_address[read_out] >> SIZE << SIZE) + (64'(read_beat) << SIZE);
  assign arready = internal && !stalls[0] && 9'(read_in + 1) != read_out;
  always_ff @(posedge clk)
    if (rst) {read_in, read_out, read_beat, rvalid} <= 0;
    else if (internal) begin
      if (m_axi_arvalid && arready) begin
        read_address[read_in] <= 64'(m_axi_araddr);
        read_length[read_in] <= m_axi_arlen;
        read_time[read_in] <= now + 64'(settings[LATENCY]);
        read_in <= read_in + 1;
      end
      if (!rvalid || m_axi_rready) begin
        rvalid <= 0;
        if (read_in != read_out && read_time[read_out] <= now + 1 && !stalls[1]) begin
          rvalid <= 1;
          rlast <= read_beat == read_length[read_out];
          rresp <= response(beat_address);
          rdata <= memory[32'(beat_address >> SIZE) % MEMORY_BEATS];
          read_beat <= read_beat == read_length[read_out] ? 0 : read_beat + 1;
          if (read_beat == read_length[read_out]) read_out <= read_out + 1;
        end
      end
    end

  // Writes: data are taken when their address is here.
  logic [63:0] write_address [0:QUEUE-1], answer_time [0:QUEUE-1];
  logic [1:0] answer [0:QUEUE-1];
  logic [8:0] write_in, write_out, answer_in, answer_out;
  logic [7:0] write_beat;
  logic [1:0] write_response, bresp;
  logic awready, wready, bvalid;
  wire [63:0] stored_address = (write_address[write_out] >> SIZE << SIZE) + (64'(write_beat) << SIZE);
  wire [1:0] stored_response = write_response != 0 ? write_response : response(stored_address);
  assign awready = internal && !stalls[2] && 9'(write_in + 1) != write_out && (settings[AW_AFTER_W] == 0 || m_axi_wvalid);
  assign wready = internal && !stalls[3] && write_in != write_out;
  always_ff @(posedge clk)
    if (rst) {write_in, write_out, write_beat, write_response, answer_in, answer_out, bvalid} <= 0;
    else if (internal) begin
      if (m_axi_awvalid && awready) begin
        write_address[write_in] <= 64'(m_axi_awaddr);
        write_in <= write_in + 1;
      end
      if (m_axi_wvalid && wready) begin
        for (int i = 0; i < BYTES; i++)
          if (m_axi_wstrb[i] && response(stored_address) == 0) memory[32'(stored_address >> SIZE) % MEMORY_BEATS][8*i+:8] <= m_axi_wdata[8*i+:8];
        write_beat <= m_axi_wlast ? 0 : write_beat + 1;
        write_response <= m_axi_wlast ? 0 : stored_response;
        if (m_axi_wlast) begin
          write_out <= write_out + 1;
          answer[answer_in] <= stored_response;
          answer_time[answer_in] <= now + 64'(settings[LATENCY]);
          answer_in <= answer_in + 1;
        end
      end
      if (!bvalid || m_axi_bready) begin
        bvalid <= 0;
        if (answer_in != answer_out && answer_time[answer_out] <= now + 1 && !stalls[4]) begin
          bvalid <= 1;
          bresp <= answer[answer_out];
          answer_out <= answer_out + 1;
        end
      end
    end

  // The load port: 64 bits of a beat that is read tell all about it.
  logic host_valid, host_write, host_commit, host_broadcast;
  logic [3:0] host_select;
  logic [HOST_UNIT-1:0] host_unit;
  logic [HOST_ADDRESS-1:0] host_address;
  logic [HOST_BEAT-1:0] host_beat;
  logic [DATA-1:0] host_data;
  logic [DATA-1:0] answers [1:READ_LATENCY];
  function automatic logic [63:0] content(input int lane);
    logic [63:0] x;
    x = {4'(host_select), 8'(host_unit), 32'(host_address), 12'(host_beat), 8'(lane)};
    x = x * 64'h9e3779b97f4a7c15;
    x = x ^ (x >> 29);
    return x * 64'hbf58476d1ce4e5b9;
  endfunction
  always_ff @(posedge clk) begin
    for (int lane = 0; lane < DATA / 64; lane++) answers[1][64*lane+:64] <= host_valid && !host_write ? content(lane) : 0;
    for (int i = 2; i <= READ_LATENCY; i++) answers[i] <= answers[i-1];
  end

  wire seen_arready = internal ? arready : m_axi_arready;
  wire seen_awready = internal ? awready : m_axi_awready;
  wire seen_wready = internal ? wready : m_axi_wready;
  wire seen_bvalid = internal ? bvalid : m_axi_bvalid;
  wire [1:0] seen_bresp = internal ? bresp : m_axi_bresp;
  wire seen_rvalid = internal ? rvalid : m_axi_rvalid;
  wire seen_rlast = internal ? rlast : m_axi_rlast;
  wire [1:0] seen_rresp = internal ? rresp : m_axi_rresp;
  wire [DATA-1:0] seen_rdata = internal ? rdata : m_axi_rdata;
  logic read_beat_seen, write_beat_seen, stall_gate, stall_cap, stall_gap, stall_buffer, stall_bus, error_ring;
  logic [1:0] read_class;
  logic [3:0] error;
  logic [15:0] error_tag;
  logic [ADDRESS-1:0] error_address;
  logic [39:0] unconsumed;

  prefetch_engine engine(
    .clk, .rst, .start, .stop, .enable, .cap, .memory_bytes, .epochs_done, .gap,
    .demand_base, .prefetch_base, .demand_size, .prefetch_size, .demand_tail, .prefetch_tail, .cancel_valid, .cancel_tag,
    .demand_complete, .prefetch_complete, .quiet, .error, .error_tag, .error_address, .error_ring,
    .read_beat(read_beat_seen), .read_class, .write_beat(write_beat_seen),
    .stall_gate, .stall_cap, .stall_gap, .stall_buffer, .stall_bus, .unconsumed,
    .m_axi_awid, .m_axi_awaddr, .m_axi_awlen, .m_axi_awsize, .m_axi_awburst, .m_axi_awvalid, .m_axi_awready(seen_awready),
    .m_axi_wdata, .m_axi_wstrb, .m_axi_wlast, .m_axi_wvalid, .m_axi_wready(seen_wready),
    .m_axi_bid, .m_axi_bresp(seen_bresp), .m_axi_bvalid(seen_bvalid), .m_axi_bready,
    .m_axi_arid, .m_axi_araddr, .m_axi_arlen, .m_axi_arsize, .m_axi_arburst, .m_axi_arvalid, .m_axi_arready(seen_arready),
    .m_axi_rid, .m_axi_rdata(seen_rdata), .m_axi_rresp(seen_rresp), .m_axi_rlast(seen_rlast), .m_axi_rvalid(seen_rvalid), .m_axi_rready,
    .host_valid, .host_write, .host_commit, .host_broadcast, .host_select, .host_unit, .host_address, .host_beat, .host_data,
    .host_read_data(answers[READ_LATENCY])
  );

  // Least significant first: tb/benches/prefetch_bench.py names these fields.
  localparam int ROW_BITS = 576 + 3 * DATA;
  logic [ROW_BITS-1:0] rows [0:ROWS-1] /*verilator public_flat_rw*/;
  logic [31:0] cycles /*verilator public_flat_rw*/;
  always_ff @(posedge clk)
    if (cycles < ROWS) begin
      rows[cycles] <= {
        host_data, seen_rdata, m_axi_wdata,
        64'(unconsumed), 64'(error_address), 64'(m_axi_wstrb), 64'(m_axi_awaddr), 64'(m_axi_araddr),
        16'(error_tag), 16'(epochs_done), prefetch_complete, demand_complete,
        32'(host_address),
        16'(host_beat), 8'(host_unit), 8'(host_select),
        8'(error), 8'(read_class), m_axi_awlen, m_axi_arlen,
        8'(m_axi_awburst), 8'(m_axi_arburst), 8'(m_axi_awsize), 8'(m_axi_arsize),
        16'(0), 8'(seen_bresp), 8'(seen_rresp),
        3'(0), gap, start, stop, error_ring, write_beat_seen, read_beat_seen, rst,
        stall_bus, stall_buffer, stall_gap, stall_cap, stall_gate, quiet, host_broadcast, host_commit,
        host_write, host_valid, m_axi_bready, seen_bvalid, m_axi_rready, seen_rlast, seen_rvalid, seen_wready,
        m_axi_wlast, m_axi_wvalid, seen_awready, m_axi_awvalid, seen_arready, m_axi_arvalid
      };
      cycles <= cycles + 1;
    end
endmodule
