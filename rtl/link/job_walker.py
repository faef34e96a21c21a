"""Job walker: takes the jobs of a collective from their store, and walks over their words."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.layout import Layout, bits_for_index
from podweave.spec.links import COUNT_WIDTH, ID_WIDTH, CollectiveKind, access_address_width

from ..parts.blocks import Block, place, struct
from ..parts.sram import Sram


class JobWalker(Block):
    """A store of jobs, in a ring; the words of the jobs of a collective, one after the other, up to one per cycle.

    The jobs of a collective are the words of the store from where those of the collective before ended, up to one with
    ``last``. A word that no collective may have is not ``valid`` but ``illegal``, and stays.

    Latency: ``begins`` in cycle t, the first word in t + 3; the next word in the cycle after a ``take``, of the same job or the
    next. A collective without words: ``active`` is low from t + 4 on.

    Parameters
    ----------
    config : ChipConfig
        With ``links``; ``pods``, and words of X and P banks.
    layout : Layout
        `send_job_layout` or `receive_job_layout` of it.

    Members
    -------
    begins : In(1)
        A collective begins (only without ``active``).
    epoch : In(ID_WIDTH)
        Its id, while ``active``.
    active : Out(1)
        A collective has begun, and not all its words were taken.
    valid : Out(1)
        There is a word.
    take : In(1)
        It is taken (only with ``valid``).
    illegal : Out(1)
        There is a word or a job that may not be, as of ``LinkError.ILLEGAL_JOB``.
    first : Out(1)
        With the first word of a collective, in its first cycle, legal or not.
    unit, address : Out(bits_for_index(pods)), Out(access_address_width(config))
        Where it is.
    bank, words : Out(1), Out(COUNT_WIDTH)
        Of the collective: its `CollectiveKind`, and its words.
    job : Out(layout.width)
        The job of the word.
    needs : Out(COUNT_WIDTH)
        ``needs`` + j of the job, with word j of it; 0 for a receiver.
    host_write : In(1)
        Writes a job. One that is read in the same cycle is undefined.
    host_address : In(bits_for_index(jobs))
        Its index.
    host_data : In(layout.width)
        The job.
    """

    def __init__(self, config: ChipConfig, layout: Layout):
        assert config.links is not None
        self.config, self.layout, self.depth = config, layout, config.links.jobs
        self.kind = f"{layout.name}_walker"
        super().__init__(
            {
                "begins": In(1),
                "epoch": In(ID_WIDTH),
                "active": Out(1),
                "valid": Out(1),
                "take": In(1),
                "illegal": Out(1),
                "first": Out(1),
                "unit": Out(bits_for_index(config.pods)),
                "address": Out(access_address_width(config)),
                "bank": Out(1),
                "words": Out(COUNT_WIDTH),
                "job": Out(layout.width),
                "needs": Out(COUNT_WIDTH),
                "host_write": In(1),
                "host_address": In(bits_for_index(self.depth)),
                "host_data": In(layout.width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        store = place(m, "store", Sram(self.depth, self.layout.width))
        incoming, job = Signal(struct(self.layout)), Signal(struct(self.layout), name="job_held", reset_less=True)
        running, present, opening = (Signal(name=name) for name in ("running", "present", "opening"))
        held, loads, fetch, ends, empty, step = (Signal(name=n) for n in ("held", "loads", "fetch", "job_ends", "empty", "step"))
        pointer = Signal(range(self.depth), name="pointer")
        m.d.comb += [
            Value.cast(incoming).eq(store["read_data"]),
            self.job.eq(Value.cast(job)),
            step.eq(self.take & self.valid),
            loads.eq(present & (~held | (step & ends))),
            # The job that may be the last of the collective decides whether there is a next one in the cycle in which it goes.
            fetch.eq(running & (~present | (loads & ~incoming.last))),
            store["read_enable"].eq(fetch),
            store["read_address"].eq(pointer),
            store["write_enable"].eq(self.host_write),
            store["write_address"].eq(self.host_address),
            store["write_data"].eq(self.host_data),
        ]
        with m.If(fetch):
            m.d.sync += pointer.eq(Mux(pointer == self.depth - 1, 0, pointer + 1))
        finishes = empty | (step & ends & job.last)
        m.d.sync += [
            running.eq(self.begins | (running & ~(loads & incoming.last))),
            present.eq(fetch | (present & ~loads)),
            opening.eq(self.begins | (opening & ~loads)),
            held.eq(loads | (held & ~(step & ends) & ~empty)),
            self.first.eq(loads & opening),
            self.active.eq(self.begins | (self.active & ~finishes)),
        ]
        self._walk(m, incoming, job, opening, loads, step, ends)
        self._rules(m, job, held, ends, empty)
        return m

    def _walk(self, m: Module, incoming: Signal, job: Signal, opening: Signal, loads: Signal, step: Signal, ends: Signal) -> None:
        """Where the next word is, and whether it is the last one of the job."""
        self._address = Signal(signed(len(self.address) + 2), name="word_address", reset_less=True)
        self._unit = Signal(signed(len(self.unit) + 2), name="word_unit", reset_less=True)
        self._left = Signal(COUNT_WIDTH, name="words_left", reset_less=True)
        waits = "needs" in {field.name for field in self.layout.fields}
        index = [Signal(len(job[f"n{i}"]), name=f"index_{i}", reset_less=True) for i in range(3)]
        wraps = [Signal(name=f"wraps_{i}") for i in range(3)]
        m.d.comb += [
            *(wrap.eq(at + 1 == job[f"n{i}"]) for i, (wrap, at) in enumerate(zip(wraps, index, strict=True))),
            ends.eq(Cat(wraps).all()),
            self.address.eq(self._address),
            self.unit.eq(self._unit),
        ]
        with m.If(step):
            m.d.sync += [
                index[0].eq(Mux(wraps[0], 0, index[0] + 1)),
                self._address.eq(self._address + Mux(wraps[0], Mux(wraps[1], job.step2, job.step1), job.step0)),
                self._left.eq(self._left - 1),
                *([self.needs.eq(self.needs + 1)] if waits else []),
            ]
            with m.If(wraps[0]):
                m.d.sync += [
                    index[1].eq(Mux(wraps[1], 0, index[1] + 1)),
                    index[2].eq(index[2] + wraps[1]),
                    self._unit.eq(self._unit + Mux(wraps[1], job.unit2, job.unit1)),
                ]
        with m.If(loads):
            m.d.sync += [
                job.eq(incoming),
                *(at.eq(0) for at in index),
                self._address.eq(incoming.address),
                self._unit.eq(incoming.unit),
                *([self.needs.eq(incoming.needs)] if waits else []),
            ]
            with m.If(opening):
                m.d.sync += [self.bank.eq(incoming.kind), self.words.eq(incoming.words), self._left.eq(incoming.words)]

    def _rules(self, m: Module, job: Signal, held: Signal, ends: Signal, empty: Signal) -> None:
        memory = self.config.memory
        names = {field.name for field in self.layout.fields}
        x = job.kind == CollectiveKind.X
        without, mine, counts, inside, last = (Signal(name=n) for n in ("without_words", "mine", "counts", "inside", "last_word"))
        m.d.comb += [
            without.eq(self.words == 0),
            mine.eq(job.id == self.epoch),
            counts.eq(Cat(job[f"n{i}"] != 0 for i in range(3)).all()),
            inside.eq(
                # What is negative is more than any bank has.
                (self._address.as_unsigned() < Mux(x, memory.x_words, memory.p_words))
                & (self._unit.as_unsigned() < self.config.pods)
            ),
            last.eq(ends & job.last),
            empty.eq(held & without & mine & job.last),
        ]
        adds = x & job.add if "add" in names else 0
        legal = mine & counts & inside & (job.kind == self.bank) & (last == (self._left == 1)) & ~adds
        m.d.comb += [
            self.valid.eq(held & ~without & legal),
            self.illegal.eq(held & Mux(without, ~mine | ~job.last, ~legal)),
        ]
