// A link of a ring: flits from the transmitter of a chip to the receiver of the next one, and credits back. Its parameters are in
// `settings`, a table of words that the bench fills before it uses the link (predict/link_timing.py packs it).
//
//   accepted : in cycle t, if up and next16 <= 16 t + 15; then next16 = max(next16, 16 t) + beat_sixteenths
//   arrives  = max(t + latency + extra, arrival of the flit before + 1): the cycle in which rx_valid shows it
//   extra    = random * (jitter + 1) >> 32; random, of 32 bits, begins as the seed and takes a step of xorshift (13, 17, 5) before
//   credits  : one that a receiver gives in cycle t is on tx_credit in cycle t + latency
//
// With `restart`, the cycle in which a run starts the engines of the chip that transmits, random begins anew, and its flits are
// numbered from 0. Counted from the cycle after that, the link is down in cycles [down, beyond): it takes nothing, and what is under
// way, either way, is lost. Bit `corrupt_bit` of {crc, user, data} of flit number `corrupt` arrives inverted. All ones: never.
module link #(
  parameter int FLIT_BITS = 128,
  parameter int USER_BITS = 6
) (
  input logic clk,
  input logic rst,
  input logic restart,
  // Of the chip that transmits: a flit that waits may be taken back. What is under way stays so.
  input logic tx_rst,
  input logic tx_valid,
  output logic tx_ready,
  input logic [FLIT_BITS-1:0] tx_data,
  input logic [USER_BITS-1:0] tx_user,
  input logic [15:0] tx_crc,
  output logic tx_credit,
  output logic [3:0] tx_credit_run,
  output logic rx_valid,
  output logic [FLIT_BITS-1:0] rx_data,
  output logic [USER_BITS-1:0] rx_user,
  output logic [15:0] rx_crc,
  input logic rx_credit,
  input logic [3:0] rx_credit_run,
  output logic up,
  // Sticky: 0: a flit changed, or was taken back, while it waited.
  output logic [0:0] violation
);
  localparam int LATENCY = 0, BEAT = 1, JITTER = 2, SEED = 3, DOWN = 4, BEYOND = 5, CORRUPT = 6, CORRUPT_BIT = 7;
  localparam int WIDTH = 16 + USER_BITS + FLIT_BITS;
  localparam int QUEUE = 4096;  // more than latency and jitter together (predict/link_timing.py)
  localparam int INDEX = $clog2(QUEUE);

  logic [31:0] settings [0:7] /*verilator public_flat_rw*/;

  // Cycles since the reset, and since the last restart; `next16` in sixteenths of the former.
  longint unsigned now, since, next16;
  logic started;
  assign up = !(started && since >= 64'(settings[DOWN]) && since < 64'(settings[BEYOND]));
  assign tx_ready = up && next16 <= (now << 4) + 15;

  longint unsigned arrival;
  logic [31:0] random, count;
  logic [WIDTH-1:0] flit;
  logic [WIDTH-1:0] flits [0:QUEUE-1];
  longint unsigned arrivals [0:QUEUE-1];
  logic [INDEX-1:0] flit_in, flit_out;
  logic [3:0] credits [0:QUEUE-1];
  longint unsigned credit_arrivals [0:QUEUE-1];
  logic [INDEX-1:0] credit_in, credit_out;

  logic shown, credit_shown;
  assign rx_valid = shown & up;
  assign tx_credit = credit_shown & up;

  logic [WIDTH-1:0] held;
  logic waits;
  always_ff @(posedge clk) begin
    held <= {tx_crc, tx_user, tx_data};
    waits <= !tx_rst && tx_valid && !tx_ready;
    if (rst) violation <= '0;
    else if (waits && (!tx_valid || held != {tx_crc, tx_user, tx_data})) violation <= 1;
  end

  always_ff @(posedge clk) begin
    now <= now + 1;
    since <= since + 1;
    shown <= 0;
    credit_shown <= 0;
    if (rst) begin
      {now, since, next16, started} <= '0;
      {arrival, random, count, flit_in, flit_out, credit_in, credit_out} = '0;
    end else begin
      if (tx_valid & tx_ready) begin
        flit = {tx_crc, tx_user, tx_data};
        if (count == settings[CORRUPT]) flit ^= WIDTH'(1) << settings[CORRUPT_BIT];
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        arrival += 1;
        if (arrival < now + 64'(settings[LATENCY]) + ((64'(random) * (64'(settings[JITTER]) + 1)) >> 32))
          arrival = now + 64'(settings[LATENCY]) + ((64'(random) * (64'(settings[JITTER]) + 1)) >> 32);
        flits[flit_in] = flit;
        arrivals[flit_in] = arrival;
        flit_in += 1;
        count += 1;
        next16 <= (next16 > now << 4 ? next16 : now << 4) + 64'(settings[BEAT]);
      end
      if (rx_credit) begin
        credits[credit_in] = rx_credit_run;
        credit_arrivals[credit_in] = now + 64'(settings[LATENCY]);
        credit_in += 1;
      end
      if (!up) begin
        flit_out = flit_in;
        credit_out = credit_in;
      end
      if (flit_in != flit_out && arrivals[flit_out] <= now + 1) begin
        shown <= 1;
        {rx_crc, rx_user, rx_data} <= flits[flit_out];
        flit_out += 1;
      end
      if (credit_in != credit_out && credit_arrivals[credit_out] <= now + 1) begin
        credit_shown <= 1;
        tx_credit_run <= credits[credit_out];
        credit_out += 1;
      end
      if (restart) begin
        started <= 1;
        since <= 0;
        random = settings[SEED];
        count = 0;
      end
    end
  end
endmodule
