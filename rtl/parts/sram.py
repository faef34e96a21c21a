"""SRAM: the one block that a user replaces by a macro."""

from __future__ import annotations

from amaranth.lib.wiring import In, Out

from podweave.spec.layout import bits_for_index

from .blocks import Block

_TEMPLATE = """\
// One read and one write port. Both act at the rising edge; read_data keeps its value while read_enable is low. A read of
// the address that is written in the same cycle may return anything. Replace the body by a macro of the same ports.
module {name}(
  input wire clk,
  input wire rst,
  input wire read_enable,
  input wire [{address_msb}:0] read_address,
  output reg [{msb}:0] read_data,
  input wire write_enable,
  input wire [{address_msb}:0] write_address,
  input wire [{msb}:0] write_data
);
  reg [{msb}:0] words [0:{last}];
  always @(posedge clk) begin
    if (read_enable) read_data <= words[read_address];
    if (write_enable) words[write_address] <= write_data;
  end
endmodule
"""


class Sram(Block):
    """``depth`` words of ``width`` bits, one read and one write port.

    Reading the address written in the same cycle returns an undefined word. ``rst`` is unused.

    Latency: 1 cycle from ``read_enable`` to ``read_data``.

    Parameters
    ----------
    depth : int
        Words.
    width : int
        Bits of a word.

    Members
    -------
    read_enable : In(1)
        Read a word.
    read_address : In(bits_for_index(depth))
        That word.
    read_data : Out(width)
        The word, one cycle later.
    write_enable : In(1)
        Write a word.
    write_address : In(bits_for_index(depth))
        That word.
    write_data : In(width)
        What is written.
    """

    kind = "sram"

    def __init__(self, depth: int, width: int):
        self.depth, self.width = depth, width
        self.variant = f"{depth}x{width}"
        self.sram_bits = depth * width
        address = bits_for_index(depth)
        super().__init__(
            {
                "read_enable": In(1),
                "read_address": In(address),
                "read_data": Out(width),
                "write_enable": In(1),
                "write_address": In(address),
                "write_data": In(width),
            }
        )

    def verilog(self) -> str:
        return _TEMPLATE.format(
            name=self.module_name,
            address_msb=bits_for_index(self.depth) - 1,
            msb=self.width - 1,
            last=self.depth - 1,
        )
