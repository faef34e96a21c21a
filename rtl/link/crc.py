"""CRC of a flit."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib.wiring import In, Out

from podweave.spec.links import CRC_WIDTH, flit_user_layout

from ..parts.blocks import Block

POLYNOMIAL = 0x1021
INITIAL = 0xFFFF


class FlitCrc(Block):
    """CRC-16/CCITT-FALSE: polynomial 0x1021, begins with 0xFFFF, no reflection, no final exclusive-or.

    It is that of a sequence of bytes, the most significant bit of each first: those of ``data``, the least significant byte
    first, and one more with ``user``, zeros above.

    Latency: none, it is combinational.

    Parameters
    ----------
    width : int
        Bits of ``data``, whole bytes.

    Members
    -------
    data : In(width)
        Payload of the flit.
    user : In(flit_user_layout().width)
        What goes beside it.
    crc : Out(CRC_WIDTH)
        Of both.
    """

    kind = "flit_crc"
    inline = True

    def __init__(self, width: int):
        assert width % 8 == 0
        self.width, self.variant = width, str(width)
        super().__init__({"data": In(width), "user": In(flit_user_layout().width), "crc": Out(CRC_WIDTH)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # In the order in which they are taken in; what is always zero as None.
        bits = [self.data[byte + 7 - i] for byte in range(0, self.width, 8) for i in range(8)]
        bits += [self.user[7 - i] if 7 - i < len(self.user) else None for i in range(8)]
        # What one bit, so many from the end, adds to the CRC.
        adds, register = [], 1 << (CRC_WIDTH - 1)
        for _ in bits:
            register = _shifted(register)
            adds.append(register)
        constant = INITIAL
        for _ in bits:
            constant = _shifted(constant)
        for i in range(CRC_WIDTH):
            taken = [bit for bit, add in zip(bits, reversed(adds), strict=True) if bit is not None and add >> i & 1]
            total = taken[0]
            for bit in taken[1:]:
                total = total ^ bit
            m.d.comb += self.crc[i].eq(~total if constant >> i & 1 else total)
        return m


def _shifted(register: int) -> int:
    """A CRC after one more bit 0."""
    register <<= 1
    return register ^ (1 << CRC_WIDTH | POLYNOMIAL) if register >> CRC_WIDTH else register
