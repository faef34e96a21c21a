// One channel of HBM as an AXI4 subordinate: data from a mapped file (tb/cpp/memory.cpp), timing from `settings`, a table of
// words that the bench fills before it uses the channel (predict/memory_timing.py packs it). golden/cycle/memory/hbm.py predicts
// every cycle of it.
//
// All is decided when a burst is accepted: a read with its AR, a write with its last W. Bursts are served one after the other on
// one data bus, in order of acceptance (of two in one cycle, the read first), in pieces that each lie in one row:
//   arrives   = cycle of acceptance + latency
//   opened    = open row: when it was opened; else max(arrives, last data of the bank, last refresh) + row_miss
//   start     = max(end of the piece before, max(arrives, opened) + jitter of the burst)
//   refreshed : if a multiple of refresh_interval lies in (last refresh, start], all rows are closed, from that multiple or the end
//               of the piece before to refresh_cycles later, and `opened` and `start` are those of a row that is not open
//   beat j    = start + j * beat_sixteenths / 16, rounded up: the cycle in which R shows it, if R is free
// B shows the end of the last piece of its burst, rounded up. R and B that wait for `ready` do not hold up the bus.
// Time 0 is the first cycle after `rst` or `restart`, which is for a channel without bursts under way.
//
// Only INCR of full width that stays inside 4 KiB is served; other bursts get SLVERR on every beat, as do beats in a range of
// the table its response, and beats outside of the channel DECERR: they read as 0 and write nothing.
// A beat that R shows for the first time in cycle t holds what W brought up to cycle t - 2.
module hbm_channel #(
  parameter int DATA_WIDTH = 128,
  parameter int ADDRESS_WIDTH = 40,
  parameter int ID_WIDTH = 1
) (
  input logic clk,
  input logic rst,
  input logic restart,
  input logic [ID_WIDTH-1:0] arid, awid,
  input logic [ADDRESS_WIDTH-1:0] araddr, awaddr,
  input logic [7:0] arlen, awlen,
  input logic [2:0] arsize, awsize,
  input logic [1:0] arburst, awburst,
  input logic arvalid, awvalid,
  output logic arready, awready,
  input logic [DATA_WIDTH-1:0] wdata,
  input logic [DATA_WIDTH/8-1:0] wstrb,
  input logic wlast, wvalid,
  output logic wready,
  output logic [ID_WIDTH-1:0] rid,
  output logic [DATA_WIDTH-1:0] rdata,
  output logic [1:0] rresp,
  output logic rlast, rvalid,
  input logic rready,
  output logic [ID_WIDTH-1:0] bid,
  output logic [1:0] bresp,
  output logic bvalid,
  input logic bready,
  // Sticky: what the manager did against the rules. 0, 1, 2: AR, AW, W changed while it waited. 3: a burst crosses 4 KiB.
  // 4: WLAST at the wrong beat. 5: restart with bursts under way.
  output logic [5:0] violation
);
  import "DPI-C" function void podweave_memory_read(input longint unsigned address, input int bytes, output bit [511:0] data);
  import "DPI-C" function void podweave_memory_write(
    input longint unsigned address, input int bytes, input longint unsigned strobes, input bit [511:0] data);

  localparam int BYTES = DATA_WIDTH / 8;
  localparam int SIZE = $clog2(BYTES);
  localparam int BURSTS = 256;   // most of either kind under way
  localparam int PIECES = 4096;  // each burst has up to 4 KiB / 256 B
  localparam int BANKS = 256;
  localparam int RANGES = 4;
  localparam logic [1:0] OKAY = 0, SLVERR = 2, DECERR = 3;
  localparam int LATENCY = 0, BEAT = 1, ROW_SHIFT = 2, BANK_COUNT = 3, ROW_MISS = 4, INTERVAL = 5, REFRESH = 6, QUEUE = 7,
    JITTER = 8, SEED = 9, FIRST = 10, BEYOND = 12, RANGE_COUNT = 14, PLACE = 15, RANGE = 16;

  logic [31:0] settings [0:RANGE+5*RANGES-1] /*verilator public_flat_rw*/;

  function automatic longint unsigned setting64(input int at);
    return {settings[at+1], settings[at]};
  endfunction

  // Times are cycles; those that end in 16, sixteenths of them.
  longint unsigned now;
  longint unsigned end16, closed, refreshed;
  logic [31:0] random, generation;
  logic [31:0] bank_generation [0:BANKS-1];
  longint unsigned bank_row [0:BANKS-1];
  longint unsigned bank_opened [0:BANKS-1];
  longint unsigned bank_last [0:BANKS-1];

  // Pieces of reads that have been accepted.
  longint unsigned piece_start16 [0:PIECES-1];
  longint unsigned piece_address [0:PIECES-1];
  logic [ID_WIDTH+10:0] piece_rest [0:PIECES-1];  // id, refused, last of its burst, beats
  logic [11:0] piece_in, piece_out;
  logic [8:0] reads;

  // The piece that R is showing.
  longint unsigned beat16, beat_address;
  logic [8:0] beats_left;
  logic beat_refused, beat_last;
  logic [ID_WIDTH-1:0] beat_id;

  // Writes whose data have not come yet, and writes whose response has not been shown.
  longint unsigned write_address [0:BURSTS-1];
  logic [ID_WIDTH+8:0] write_rest [0:BURSTS-1];  // id, refused, beats - 1
  logic [7:0] write_in, write_out;
  logic [7:0] write_beat;
  logic [1:0] write_response;
  longint unsigned answer_time [0:BURSTS-1];
  logic [ID_WIDTH+1:0] answer_rest [0:BURSTS-1];  // id, response
  logic [7:0] answer_in, answer_out;
  logic [8:0] writes;

  assign arready = {23'b0, reads} < settings[QUEUE];
  assign awready = {23'b0, writes} < settings[QUEUE];
  assign wready = write_in != write_out;

  // Byte of the mapped file at which an address is: address 0 is at page PLACE.
  function automatic longint unsigned place(input longint unsigned address);
    return address + (64'(settings[PLACE]) << 12);
  endfunction

  function automatic longint unsigned larger(input longint unsigned a, input longint unsigned b);
    return a > b ? a : b;
  endfunction

  function automatic longint unsigned aligned(input longint unsigned address);
    return address & ~(64'(BYTES) - 1);
  endfunction

  function automatic logic crosses(input longint unsigned address, input logic [7:0] len);
    return ((aligned(address) + (64'(len) << SIZE)) >> 12) != (address >> 12);
  endfunction

  function automatic logic illegal(input longint unsigned address, input logic [7:0] len, input logic [2:0] size, input logic [1:0] burst);
    return burst != 1 || size != 3'(SIZE) || crosses(address, len);
  endfunction

  function automatic logic [1:0] response(input longint unsigned address);
    if (address < setting64(FIRST) || address >= setting64(BEYOND)) return DECERR;
    for (int i = 0; i < int'(settings[RANGE_COUNT]); i++)
      if (address + BYTES > setting64(RANGE + 5 * i) && address < setting64(RANGE + 5 * i + 2))
        return settings[RANGE+5*i+4][1:0];
    return OKAY;
  endfunction

  // Plans a burst that is accepted now. Its pieces are queued if it is a read; `end16` is its end.
  task automatic serve(
      input longint unsigned address, input logic [7:0] len, input logic refused, input logic is_read,
      input logic [ID_WIDTH-1:0] id);
    longint unsigned at, row, arrives, opened, start16, extra, due;
    int left, count, bank;
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    extra = (64'(random) * (64'(settings[JITTER]) + 1)) >> 32;
    at = aligned(address);
    left = int'(len) + 1;
    arrives = now + 64'(settings[LATENCY]);
    while (left != 0) begin
      row = at >> settings[ROW_SHIFT];
      bank = int'(row) & int'(settings[BANK_COUNT] - 1);
      count = int'((((row + 1) << settings[ROW_SHIFT]) - at) >> SIZE);
      if (refused || count > left) count = left;
      if (bank_generation[bank] != generation) opened = larger(arrives, closed) + 64'(settings[ROW_MISS]);
      else if (bank_row[bank] != row) opened = larger(arrives, bank_last[bank]) + 64'(settings[ROW_MISS]);
      else opened = bank_opened[bank];
      start16 = larger(end16, (larger(arrives, opened) + extra) << 4);
      if (settings[INTERVAL] != 0) begin
        due = (start16 >> 4) / 64'(settings[INTERVAL]);
        if (due > refreshed) begin
          closed = larger(due * 64'(settings[INTERVAL]), (end16 + 15) >> 4) + 64'(settings[REFRESH]);
          refreshed = due;
          generation += 1;
          opened = larger(arrives, closed) + 64'(settings[ROW_MISS]);
          start16 = (opened + extra) << 4;
        end
      end
      end16 = start16 + 64'(count) * 64'(settings[BEAT]);
      bank_generation[bank] = generation;
      bank_row[bank] = row;
      bank_opened[bank] = opened;
      bank_last[bank] = (end16 + 15) >> 4;
      left -= count;
      if (is_read) begin
        piece_start16[piece_in] = start16;
        piece_address[piece_in] = at;
        piece_rest[piece_in] = {id, refused, left == 0, 9'(count)};
        piece_in += 1;
      end
      at += 64'(count) << SIZE;
    end
  endtask

  // What a manager must hold while it waits.
  localparam int REQUEST = ID_WIDTH + ADDRESS_WIDTH + 13;
  wire [REQUEST-1:0] ar = {arid, araddr, arlen, arsize, arburst}, aw = {awid, awaddr, awlen, awsize, awburst};
  wire [DATA_WIDTH+DATA_WIDTH/8:0] w = {wdata, wstrb, wlast};
  logic [REQUEST-1:0] ar_before, aw_before;
  logic [DATA_WIDTH+DATA_WIDTH/8:0] w_before;
  logic ar_waits, aw_waits, w_waits;
  always_ff @(posedge clk) begin
    {ar_before, aw_before, w_before} <= {ar, aw, w};
    {ar_waits, aw_waits, w_waits} <= rst ? 3'b0 : {arvalid & ~arready, awvalid & ~awready, wvalid & ~wready};
    if (rst) violation <= '0;
    else begin
      if (ar_waits && (!arvalid || ar != ar_before)) violation[0] <= 1;
      if (aw_waits && (!awvalid || aw != aw_before)) violation[1] <= 1;
      if (w_waits && (!wvalid || w != w_before)) violation[2] <= 1;
      if (arvalid && arburst == 1 && crosses(64'(araddr), arlen)) violation[3] <= 1;
      if (awvalid && awburst == 1 && crosses(64'(awaddr), awlen)) violation[3] <= 1;
      if (wvalid & wready && wlast != (write_beat == write_rest[write_out][7:0])) violation[4] <= 1;
      if (restart && (reads != 0 || writes != 0 || arvalid || awvalid)) violation[5] <= 1;
    end
  end

  // There was a reset: before, registers may hold anything, but memory must not change.
  logic alive;
  // Of what this block assigns, only `now` and the non-blocking ones are read outside of it.
  bit [511:0] beat;
  logic [1:0] answer;
  logic refused;
  longint unsigned address;
  always_ff @(posedge clk) begin
    now <= now + 1;
    if (rst | restart) begin
      now <= 0;
      end16 = 0;
      closed = 0;
      refreshed = 0;
      random = settings[SEED];
      generation += 1;
    end
    if (rst) begin
      {piece_in, piece_out, beats_left, write_response, answer_in, answer_out} = '0;
      {reads, writes, rvalid, bvalid, write_in, write_out, write_beat} <= '0;
      alive <= 1;
    end else if (alive) begin
      reads <= reads + 9'(arvalid & arready) - 9'(rvalid & rready & rlast);
      writes <= writes + 9'(awvalid & awready) - 9'(bvalid & bready);
      if (!rvalid | rready) begin
        rvalid <= 0;
        if (beats_left == 0 && piece_in != piece_out) begin
          beat16 = piece_start16[piece_out];
          beat_address = piece_address[piece_out];
          {beat_id, beat_refused, beat_last, beats_left} = piece_rest[piece_out];
          piece_out += 1;
        end
        if (beats_left != 0 && beat16 <= (now + 1) << 4) begin
          answer = beat_refused ? SLVERR : response(beat_address);
          beat = '0;
          if (answer == OKAY) podweave_memory_read(place(beat_address), BYTES, beat);
          beats_left -= 1;
          rvalid <= 1;
          rdata <= DATA_WIDTH'(beat);
          rresp <= answer;
          rlast <= beat_last && beats_left == 0;
          rid <= beat_id;
          beat16 += 64'(settings[BEAT]);
          beat_address += 64'(BYTES);
        end
      end
      if (!bvalid | bready) begin
        bvalid <= 0;
        if (answer_in != answer_out && answer_time[answer_out] <= now + 1) begin
          bvalid <= 1;
          {bid, bresp} <= answer_rest[answer_out];
          answer_out += 1;
        end
      end
      if (arvalid & arready) begin
        address = 64'(araddr);
        serve(address, arlen, illegal(address, arlen, arsize, arburst), 1, arid);
      end
      if (wvalid & wready) begin
        refused = write_rest[write_out][8];
        address = aligned(write_address[write_out]) + (64'(write_beat) << SIZE);
        answer = refused ? SLVERR : response(address);
        if (answer == OKAY) podweave_memory_write(place(address), BYTES, 64'(wstrb), 512'(wdata));
        if (answer > write_response) write_response = answer;
        write_beat <= write_beat + 1;
        if (write_beat == write_rest[write_out][7:0]) begin
          serve(write_address[write_out], write_beat, refused, 0, 0);
          answer_time[answer_in] = (end16 + 15) >> 4;
          answer_rest[answer_in] = {write_rest[write_out][9+:ID_WIDTH], write_response};
          answer_in += 1;
          write_response = OKAY;
          write_beat <= 0;
          write_out <= write_out + 1;
        end
      end
      if (awvalid & awready) begin
        write_address[write_in] = 64'(awaddr);
        write_rest[write_in] = {awid, illegal(64'(awaddr), awlen, awsize, awburst), awlen};
        write_in <= write_in + 1;
      end
    end
  end

  initial begin
    alive = 0;
    generation = 0;
    for (int i = 0; i < BANKS; i++) bank_generation[i] = 0;
  end
endmodule
