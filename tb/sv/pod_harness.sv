// A pod on its fixed-latency memory: X, W and P banks, a program store for jobs, counters and a trace of every port.
// Nothing outside the simulation acts per cycle; Python loads and reads the arrays in bulk.
module pod_harness #(
  parameter int ROWS = 1,
  parameter int COLS = 1,
  parameter int PSUM = 32,
  parameter int LATENCY = 1,
  parameter int BANKS = 1,
  parameter int BANK_BITS = 1,
  // 0: the network has one plane, and the pod no such port.
  parameter int X_PLANE_BITS = 0,
  parameter int W_PLANE_BITS = 0,
  parameter int P_PLANE_BITS = 0,
  parameter int X_WORDS = 2,
  parameter int W_WORDS = 2,
  parameter int P_WORDS = 2,
  parameter int X_BITS = 1,
  parameter int W_BITS = 1,
  parameter int P_BITS = 1,
  parameter int TIME_BITS = 24,
  parameter int ERROR_BITS = 1,
  parameter int LOAD_BITS = 1,
  parameter int STREAM_BITS = 1,
  parameter int JOBS = 1024,
  parameter int TRACE_CYCLES = 16384
) (
  input logic clk,
  input logic rst,
  input logic go,
  input logic tracing
);
  // Cycles from the first job pushed to the start of the epoch: enough to fill a queue of two.
  localparam int LEAD = 4;
  // Lanes of a word on the data inputs while nothing was requested: a value that shows if it is used.
  localparam logic [7:0] IDLE = 8'h5a;
  localparam int P_LANE = 32;

  logic [8*ROWS-1:0] x_mem [0:BANKS*X_WORDS-1] /*verilator public_flat_rw*/;
  logic [8*COLS-1:0] w_mem [0:BANKS*W_WORDS-1] /*verilator public_flat_rw*/;
  logic [P_LANE*COLS-1:0] p_mem [0:BANKS*P_WORDS-1] /*verilator public_flat_rw*/;
  logic [LOAD_BITS-1:0] load_jobs [0:JOBS-1] /*verilator public_flat_rw*/;
  logic [STREAM_BITS-1:0] stream_jobs [0:JOBS-1] /*verilator public_flat_rw*/;
  logic [31:0] job_counts [0:1] /*verilator public_flat_rw*/;
  // Cycle of the first request, cycle of the last write, X words, W words, P words, cycles so far, errors, error time, busy.
  logic [31:0] counters [0:8] /*verilator public_flat_rw*/;

  logic active = 1'b0;
  logic [31:0] cycle = 0;
  always_ff @(posedge clk) begin
    active <= go & ~rst;
    cycle <= (active & ~rst) ? cycle + 1 : 0;
  end
  wire run = active && cycle >= LEAD;

  wire load_ready, stream_ready, w_request_valid, x_request_valid, p_valid, p_accumulate, busy;
  wire [BANK_BITS-1:0] w_request_bank, x_request_bank, p_bank;
  wire [(W_PLANE_BITS > 0 ? W_PLANE_BITS : 1)-1:0] w_request_plane;
  wire [(X_PLANE_BITS > 0 ? X_PLANE_BITS : 1)-1:0] x_request_plane;
  wire [(P_PLANE_BITS > 0 ? P_PLANE_BITS : 1)-1:0] p_plane;
  if (W_PLANE_BITS == 0) assign w_request_plane = 0;
  if (X_PLANE_BITS == 0) assign x_request_plane = 0;
  if (P_PLANE_BITS == 0) assign p_plane = 0;
  wire [W_BITS-1:0] w_request_address;
  wire [X_BITS-1:0] x_request_address;
  wire [P_BITS-1:0] p_address;
  wire [PSUM*COLS-1:0] p_data;
  wire [ERROR_BITS-1:0] errors;
  wire [TIME_BITS-1:0] error_time;

  logic [31:0] load_index, stream_index;
  wire load_valid = active && load_index < job_counts[0] && load_ready;
  wire stream_valid = active && stream_index < job_counts[1] && stream_ready;
  wire [LOAD_BITS-1:0] load_job = load_jobs[load_index];
  wire [STREAM_BITS-1:0] stream_job = stream_jobs[stream_index];
  always_ff @(posedge clk) begin
    load_index <= active ? load_index + 32'(load_valid) : 0;
    stream_index <= active ? stream_index + 32'(stream_valid) : 0;
  end

  wire x_due, w_due;
  wire [31:0] x_due_index, w_due_index;
  logic [8*ROWS-1:0] x_data;
  logic [8*COLS-1:0] w_data;
  request_delay #(.LATENCY(LATENCY)) x_port (
    .clk, .valid(x_request_valid), .index(
      32'(x_request_bank) * X_WORDS + 32'(x_request_address)),
    .due(x_due), .due_index(x_due_index));
  request_delay #(.LATENCY(LATENCY)) w_port (
    .clk, .valid(w_request_valid), .index(
      32'(w_request_bank) * W_WORDS + 32'(w_request_address)),
    .due(w_due), .due_index(w_due_index));
  always_ff @(posedge clk) begin
    x_data <= x_due ? x_mem[x_due_index] : {ROWS{IDLE}};
    w_data <= w_due ? w_mem[w_due_index] : {COLS{IDLE}};
  end

  pod pod (.*);

  // Lanes of 32 bits in the trace and in the P banks, whatever the width of a partial sum.
  wire [P_LANE*COLS-1:0] p_lanes;
  logic [P_LANE*COLS-1:0] p_total;
  wire [31:0] p_index = 32'(p_bank) * P_WORDS + 32'(p_address);
  wire [P_LANE*COLS-1:0] p_old = p_mem[p_index];
  generate
    for (genvar lane = 0; lane < COLS; lane++) begin : lanes
      assign p_lanes[lane*P_LANE+:P_LANE] = P_LANE'($signed(p_data[lane*PSUM+:PSUM]));
      wire [PSUM-1:0] total = p_data[lane*PSUM+:PSUM] + p_old[lane*P_LANE+:PSUM];
      assign p_total[lane*P_LANE+:P_LANE] = P_LANE'($signed(total));
    end
  endgenerate
  always_ff @(posedge clk) if (p_valid) p_mem[p_index] <= p_accumulate ? p_total : p_lanes;

  logic started;
  always_ff @(posedge clk) begin
    if (!active) begin
      started <= 1'b0;
      for (int i = 0; i < 6; i++) counters[i] <= 0;
    end else begin
      if (!started && (x_request_valid || w_request_valid)) begin
        started <= 1'b1;
        counters[0] <= cycle;
      end
      if (p_valid) counters[1] <= cycle;
      counters[2] <= counters[2] + 32'(x_request_valid);
      counters[3] <= counters[3] + 32'(w_request_valid);
      counters[4] <= counters[4] + 32'(p_valid);
      counters[5] <= cycle + 1;
    end
    counters[6] <= 32'(errors);
    counters[7] <= 32'(error_time);
    counters[8] <= 32'(busy);
  end

  localparam int X_TRACE = 32 * ((8 * ROWS + 31) / 32);
  localparam int W_TRACE = 32 * ((8 * COLS + 31) / 32);
  localparam int TRACE_BITS = P_LANE * COLS + X_TRACE + W_TRACE + 32 * 20;
  logic [TRACE_BITS-1:0] trace [0:TRACE_CYCLES-1] /*verilator public_flat_rw*/;
  always_ff @(posedge clk)
    if (tracing & active)
      trace[cycle % TRACE_CYCLES] <= {
        32'(load_valid), 32'(stream_valid),
        32'(load_ready), 32'(stream_ready),
        32'(w_request_valid), 32'(w_request_bank), 32'(w_request_plane), 32'(w_request_address),
        32'(x_request_valid), 32'(x_request_bank), 32'(x_request_plane), 32'(x_request_address),
        32'(p_valid), 32'(p_accumulate), 32'(p_bank), 32'(p_plane), 32'(p_address),
        32'(busy), 32'(errors), 32'(error_time),
        W_TRACE'(w_data), X_TRACE'(x_data), p_lanes
      };
endmodule

// Delays a request so that the word it names is registered LATENCY cycles after it.
module request_delay #(
  parameter int LATENCY = 1
) (
  input logic clk,
  input logic valid,
  input logic [31:0] index,
  output logic due,
  output logic [31:0] due_index
);
  generate
    if (LATENCY == 1) begin : direct
      assign due = valid;
      assign due_index = index;
    end else begin : delayed
      logic [LATENCY-2:0] valids;
      logic [31:0] indices [0:LATENCY-2];
      always_ff @(posedge clk) begin
        valids[0] <= valid;
        indices[0] <= index;
        for (int i = 1; i < LATENCY - 1; i++) begin
          valids[i] <= valids[i-1];
          indices[i] <= indices[i-1];
        end
      end
      assign due = valids[LATENCY-2];
      assign due_index = indices[LATENCY-2];
    end
  endgenerate
endmodule
