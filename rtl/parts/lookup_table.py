"""Lookup table: many reads of one small memory in a cycle; a block to replace by whatever a process offers for that."""

from __future__ import annotations

from amaranth.lib.wiring import In, Out

from podweave.spec.layout import bits_for_index

from .blocks import Block

_TEMPLATE = """\
// {lanes} read ports and one write port. All act at the rising edge; read_data keeps its value while read_enable is low. A read of
// the entry that is written in the same cycle may return anything. Replace the body by what has the same ports: {lanes} copies
// of a memory with one read port, for one.
module {name}(
  input wire clk,
  input wire rst,
  input wire read_enable,
  input wire [{read_address_msb}:0] read_address,
  output reg [{read_data_msb}:0] read_data,
  input wire write_enable,
  input wire [{address_msb}:0] write_address,
  input wire [7:0] write_data
);
  reg [7:0] words [0:{last}];
  integer lane;
  always @(posedge clk) begin
    if (read_enable)
      for (lane = 0; lane < {lanes}; lane = lane + 1)
        read_data[8 * lane +: 8] <= words[read_address[{address} * lane +: {address}]];
    if (write_enable) words[write_address] <= write_data;
  end
endmodule
"""


class LookupTable(Block):
    """``entries`` bytes, read at ``lanes`` addresses at once.

    Reading the entry written in the same cycle returns an undefined byte. ``rst`` is unused.

    Latency: 1 cycle from ``read_enable`` to ``read_data``.

    Parameters
    ----------
    lanes : int
        Addresses that are read at once.
    entries : int
        Bytes of the table.

    Members
    -------
    read_enable : In(1)
        Read.
    read_address : In(lanes * bits_for_index(entries))
        One entry per lane.
    read_data : Out(lanes * 8)
        One byte per lane, one cycle later, kept until the next read.
    write_enable : In(1)
        Write an entry.
    write_address : In(bits_for_index(entries))
        That entry.
    write_data : In(8)
        What is written.
    """

    kind = "lookup_table"

    def __init__(self, lanes: int, entries: int):
        self.lanes, self.entries = lanes, entries
        self.variant = f"{lanes}x{entries}"
        self.sram_bits = lanes * entries * 8
        address = bits_for_index(entries)
        super().__init__(
            {
                "read_enable": In(1),
                "read_address": In(lanes * address),
                "read_data": Out(lanes * 8),
                "write_enable": In(1),
                "write_address": In(address),
                "write_data": In(8),
            }
        )

    def verilog(self) -> str:
        address = bits_for_index(self.entries)
        return _TEMPLATE.format(
            name=self.module_name,
            lanes=self.lanes,
            address=address,
            address_msb=address - 1,
            read_address_msb=self.lanes * address - 1,
            read_data_msb=self.lanes * 8 - 1,
            last=self.entries - 1,
        )
