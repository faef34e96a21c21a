"""Accesses of a node that do not come over networks: of the host, and of the collective engine to X and P banks."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from podweave.spec.config import ChipConfig
from podweave.spec.links import CollectiveKind
from podweave.spec.load_port import HostSelect, host_widths

from ..parts.blocks import register
from ..parts.link_access import link_access_members
from ..parts.load_port import access_members

_KINDS = {HostSelect.X: CollectiveKind.X, HostSelect.P: CollectiveKind.P}


class Accesses:
    """What the host does takes effect one cycle after it is on the port of the node, when all the beats of its word are here; what
    the collective engine does, in its cycle: the last register of the link tree is as good as one in each node.

    Members: ``select``, ``address``, ``beat``, ``written`` and ``reading`` of the access of the host that takes effect.
    """

    def __init__(self, m: Module, config: ChipConfig, node: Any):
        """``node``: has the members of `Node` that this is about."""
        self.config = config
        word = max(width for _, width in host_widths(config).values())
        self.select = register(m, node.host_select, name="host_select_held")
        self.address = register(m, node.host_address, name="host_address_held")
        self.beat = register(m, node.host_beat, name="host_beat_held")
        self.reading = register(m, node.host_valid & ~node.host_write, name="host_reading", reset_less=False)
        self._committed = register(m, node.host_valid & node.host_write & node.host_commit, name="host_committed", reset_less=False)
        width, beats = config.host_bits, []
        for i, low in enumerate(range(0, word, width)):
            beat = Signal(min(width, word - low), name=f"host_beat_{i}", reset_less=True)
            with m.If(node.host_valid & node.host_write & (node.host_beat == i)):
                m.d.sync += beat.eq(node.host_data)
            beats.append(beat)
        self.written = Signal(word, name="host_written")
        m.d.comb += self.written.eq(Cat(beats))
        self._link: dict[str, Value] = {name.removeprefix("link_"): getattr(node, name) for name in link_port(config)}

    def writes(self, select: HostSelect) -> Value:
        """The host writes a word of this kind."""
        return self._committed & (self.select == select)

    def port(self, block: dict[str, Any], select: HostSelect) -> list[Any]:
        """The port of a store or bank that only the host writes."""
        return [
            block["host_write"].eq(self.writes(select)),
            block["host_address"].eq(self.address),
            block["host_data"].eq(self.written),
        ]

    def bank_port(self, bank: dict[str, Any], select: HostSelect) -> list[Any]:
        """The port of an X or P bank, which the collective engine writes as well."""
        if not self._link:
            return self.port(bank, select)
        return [
            bank["host_write"].eq(self.writes(select) | (self._linked(select) & self._link["write"])),
            bank["host_address"].eq(self.bank_address()),
            bank["host_data"].eq(Mux(self._linked(select), self._link["data"], self.written)),
            *([bank["host_accumulate"].eq(self._linked(select) & self._link["add"])] if select is HostSelect.P else []),
        ]

    def reads(self, select: HostSelect) -> Value:
        """A word of this kind is read."""
        reads = self.reading & (self.select == select)
        if self._link and select in _KINDS:
            return reads | (self._linked(select) & ~self._link["write"])
        return reads

    @property
    def x_collides(self) -> Value:
        """The host has an access to an X bank that the collective engine takes away, which only happens where engines may use X
        banks at any time."""
        if not self._link or self.config.memory.x_parts == 1:
            return Const(0)
        return self._link["valid"] & (self.reading | self._committed) & (self.select == HostSelect.X)

    def bank_address(self) -> Value:
        """The word of an X or P bank that is read or written."""
        return Mux(self._link["valid"], self._link["address"], self.address) if self._link else self.address

    def _linked(self, select: HostSelect) -> Value:
        return self._link["valid"] & (self._link["kind"] == _KINDS[select])

    def link_words(self, m: Module, words: dict[HostSelect, Value]) -> Value:
        """``link_read_data`` of a node; ``words``: what X and P banks read, by what they are."""
        reads = register(m, self._link["valid"] & ~self._link["write"], name="link_reads", reset_less=False)
        kind = register(m, self._link["kind"], name="link_kind_read")
        word = Mux(kind == _KINDS[HostSelect.P], words[HostSelect.P], words[HostSelect.X])
        return register(m, Mux(reads, word, 0), name="link_read_word", reset_less=False)


def link_port(config: ChipConfig) -> dict[str, int]:
    """Names and widths of the inputs of a node for the collective engine."""
    return {"link_valid": 1, **link_access_members(config)} if config.links else {}


def host_port(config: ChipConfig) -> dict[str, int]:
    """Names and widths of the inputs of a node for the host."""
    return {"host_valid": 1, **access_members(config)}
