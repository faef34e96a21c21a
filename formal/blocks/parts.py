"""Queues."""

from __future__ import annotations

from amaranth.hdl import Signal, Value

from podweave.rtl.parts.job_queue import JobQueue
from podweave.rtl.parts.word_queue import WordQueue
from podweave.spec.layout import Field, Layout

from ..faults import Fault
from ..harness import Harness
from ..property import Property

_DEPTH, _WIDTH = 4, 4


def follow_one(h: Harness, *, push: Value, pushed: Value, pop: Value, depth: int, name: str) -> tuple[Signal, Signal]:
    """Follows one thing, of any value and pushed at any time, through a queue.

    Returns (it is in the queue, things that are before it).
    """
    m = h.m
    level, ahead = Signal(range(depth + 1), name=f"{name}_level"), Signal(range(depth + 1), name=f"{name}_ahead")
    inside, chosen = Signal(name=f"{name}_inside"), h.free(f"{name}_chosen")
    m.d.sync += level.eq(level + push - pop)
    with m.If(inside & pop):
        m.d.sync += ahead.eq(ahead - 1)
        with m.If(ahead == 0):
            m.d.sync += inside.eq(0)
    with m.If(push & pushed & chosen & ~inside):
        m.d.sync += [inside.eq(1), ahead.eq(level - pop)]
    return inside, ahead


def job_queue(h: Harness) -> None:
    m = h.m
    queue = h.place(JobQueue(Layout("job", (Field("value", _WIDTH, ""),)), _DEPTH))
    h.assume(~queue["pop"] | queue["head_valid"])
    level = Signal(range(_DEPTH + 1))
    push = queue["push_valid"] & queue["ready"]
    m.d.sync += level.eq(level + push - queue["pop"])
    h.check(queue["ready"] == (level != _DEPTH), "there is room unless it holds as many jobs as its depth")
    h.check(queue["head_valid"] == (level != 0), "there is a head unless it is empty, a cycle after the push at the latest")
    h.check(queue["overflow"] == (queue["push_valid"] & (level == _DEPTH)), "overflow, in the cycle of a push without room")
    watched = h.constant("watched", _WIDTH)
    inside, ahead = follow_one(h, push=push, pushed=queue["push_job"] == watched, pop=queue["pop"], depth=_DEPTH, name="job")
    first = inside & (ahead == 0)
    h.check(~first | (queue["head"].value == watched), "jobs leave as they came, in their order")
    h.cover(first & queue["pop"], "a job that was followed leaves")
    h.cover(queue["overflow"] & queue["pop"], "a job is lost while another leaves")


def word_queue(h: Harness) -> None:
    m = h.m
    queue = h.place(WordQueue(_DEPTH, _WIDTH))
    clear, pop = queue["clear"], queue["pop"]
    h.assume(~pop | queue["head_valid"])
    # Whoever pushes counts: the words of the memory and the one at the head.
    level = Signal(range(_DEPTH + 2))
    h.assume(~queue["push"] | (level != _DEPTH + 1))
    watched = h.constant("watched", _WIDTH)
    ahead, inside, chosen = Signal(range(_DEPTH + 2)), Signal(), h.free("chosen")
    first = inside & (ahead == 0)
    with m.If(clear):
        m.d.sync += [level.eq(0), inside.eq(0)]
    with m.Else():
        m.d.sync += level.eq(level + queue["push"] - pop)
        with m.If(inside & pop):
            m.d.sync += ahead.eq(ahead - 1)
            with m.If(ahead == 0):
                m.d.sync += inside.eq(0)
        with m.If(queue["push"] & (queue["push_word"] == watched) & chosen & ~inside):
            m.d.sync += [inside.eq(1), ahead.eq(level - pop)]
    new = h.past(queue["push"] & ~clear, "push")
    h.check(queue["head_valid"] == (level != new), "there is a head exactly if a word came 2 or more cycles ago")
    h.check(~(first & queue["head_valid"]) | (queue["head"] == watched), "words leave as they came, in their order")
    h.cover(first & queue["head_valid"] & h.past(pop, "pop"), "a word follows another at the head")
    h.cover((level == _DEPTH) & queue["push"] & pop, "it takes and gives a word with room for one more")
    h.cover(level == _DEPTH + 1, "it is full")
    h.cover(clear & (level == 2), "a queue with words is cleared")


PROPERTIES = (
    Property(
        name="job_queue.order",
        rule="jobs leave in their order and unchanged; ready, head_valid and overflow say what the queue holds",
        sizes=f"{_DEPTH} jobs of {_WIDTH} bits",
        build=job_queue,
        faults=(
            Fault("rtl.parts.job_queue", "self.ready.eq(level != self.depth)", "self.ready.eq(1)"),
            Fault("rtl.parts.job_queue", "push.eq(self.push_valid & self.ready)", "push.eq(self.push_valid)"),
            Fault("rtl.parts.job_queue", "m.d.sync += address.eq(address + 1)", "m.d.sync += address.eq(address + push)"),
        ),
    ),
    Property(
        name="word_queue.order",
        rule="words leave in their order, unchanged and without gaps; one into an empty queue is at the head 2 cycles later",
        sizes=f"{_DEPTH} words of {_WIDTH} bits",
        build=word_queue,
        faults=(
            Fault("rtl.parts.word_queue", "(~held | self.pop)", "~held"),
            Fault("rtl.parts.word_queue", "held.eq(fetch | (held & ~self.pop))", "held.eq(fetch | held)"),
        ),
    ),
)
