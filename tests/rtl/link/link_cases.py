"""Chips with links, their jobs on the load port, and the jobs of collectives of a ring."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.jobs import pack_jobs
from podweave.golden.cycle.link.words import Job, LinkGeometry, P, X
from podweave.rtl.accelerator.emit import emit_block
from podweave.rtl.parts.blocks import Block
from podweave.spec.config import ChipConfig
from podweave.spec.links import CollectiveKind, receive_job_layout, send_job_layout, word_flits
from podweave.spec.links_config import LinksConfig
from podweave.spec.load_port import HostSelect
from podweave.spec.presets import load_config
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.lockstep.ports import Port


def linked(
    *, flit_bits: int, buffer_words: int = 4, jobs: int = 16, pods: int = 4, words: int = 16, x_words: int = 12, **changes: int
) -> ChipConfig:
    """A small chip with links; ``changes``: of its array."""
    chip = load_config("chip2x4").replace(pods=pods, banks=pods, p_words=words, x_words=x_words, **changes)
    return dataclasses.replace(chip, links=LinksConfig(flit_bits=flit_bits, buffer_words=buffer_words, jobs=jobs))


DEPTH = 8192
"""Cycles of a run, at the most."""
CONFIGS = {
    # Flits of a P word, of an X word.
    "4_1": linked(flit_bits=32),
    "2_1": linked(flit_bits=64, buffer_words=8, jobs=7),
    "8_2": linked(flit_bits=32, rows=8, cols=8, buffer_words=2),
    # Neither word is a multiple of a flit.
    "5_1": linked(flit_bits=32, rows=4, cols=8, psum_width=18, pods=32, words=11),
    # X words wider than P words, and a single row of lanes.
    "2_4": linked(flit_bits=32, rows=16, cols=2, group_cols=2, psum_width=32, x_words=9, words=20),
    "4_1_row": linked(flit_bits=32, rows=1, cols=4, group_rows=1, group_cols=1),
}


def geometry_of(config: ChipConfig) -> LinkGeometry:
    assert config.links is not None
    p, x = (word_flits(config, kind) for kind in CollectiveKind)
    return LinkGeometry(flits=(p, x), buffer_words=config.links.buffer_words, read_latency=config.link_read_latency)


def beats_of(
    config: ChipConfig, sends: Sequence[Job], receives: Sequence[Job], first: tuple[int, int] = (0, 0)
) -> list[tuple[int, int, int, int, int]]:
    """Writes of jobs from words ``first`` of the stores on: (select, address, beat, commit, data) each."""
    assert config.links is not None
    found, size = [], config.host_bits // 8
    stores = (
        (HostSelect.SEND_STORE, send_job_layout(config), sends, first[0]),
        (HostSelect.RECEIVE_STORE, receive_job_layout(config), receives, first[1]),
    )
    for select, layout, jobs, begin in stores:
        if not jobs:
            continue
        fields = {field.name: np.array([getattr(job, field.name) for job in jobs]) for field in layout.fields}
        packed = pack_jobs(layout, fields)
        packed = np.pad(packed, ((0, 0), (0, -packed.shape[1] % size)))
        beats = packed.shape[1] // size
        for i, word in enumerate(packed):
            for beat in range(beats):
                data = int.from_bytes(word[beat * size : (beat + 1) * size].tobytes(), "little")
                found.append((int(select), (begin + i) % config.links.jobs, beat, int(beat == beats - 1), data))
    return found


@dataclasses.dataclass(frozen=True)
class Region:
    """Words of all chips that a collective is about: ``words`` of them, ``per_unit`` side by side in each node from ``unit`` on."""

    kind: int
    words: int
    per_unit: int
    unit: int = 0
    address: int = 0

    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        number = np.arange(self.words)
        return self.unit + number // self.per_unit, self.address + number % self.per_unit

    def walks(self, low: int, high: int) -> list[Job]:
        """Jobs that walk over words ``low`` to ``high``: the rest of a node, whole nodes, the begin of a node."""
        found: list[Job] = []
        while low < high:
            unit, at = divmod(low, self.per_unit)
            whole = (high - low) // self.per_unit if at == 0 else 0
            place = {"unit": self.unit + unit, "address": self.address + at, "kind": self.kind}
            if whole:
                found.append(Job(**place, n0=self.per_unit, n1=whole, step0=1, step1=1 - self.per_unit, unit1=1))
                low += whole * self.per_unit
            else:
                count = min(self.per_unit - at, high - low)
                found.append(Job(**place, n0=count, step0=1))
                low += count
        return found


Step = tuple[int, int, int]
"""First word, behind the last word, and words received before its first: -1 if it does not wait."""


def jobs_of(region: Region, sends: Sequence[Step], receives: Sequence[tuple[int, int, bool]], id: int, next: int) -> Program:
    """Jobs of a chip; ``receives``: words as in a step, and whether they are added."""
    sent: list[Job] = []
    received: list[Job] = []
    for low, high, needs in sends:
        for job in region.walks(low, high):
            sent.append(dataclasses.replace(job, follows=int(needs >= 0), needs=max(needs, 0)))
            needs += job.count if needs >= 0 else 0
    for low, high, add in receives:
        received += [dataclasses.replace(job, add=int(add)) for job in region.walks(low, high)]
    found = []
    for jobs in (sent, received):
        total = sum(job.count for job in jobs)
        jobs = jobs or [Job(kind=region.kind)]
        common = {"id": id, "words": total, "next": next}
        found.append([dataclasses.replace(job, **common, last=int(i == len(jobs) - 1)) for i, job in enumerate(jobs)])
    return found[0], found[1]


Program = tuple[list[Job], list[Job]]


def collective(what: str, region: Region, chips: int, rank: int, id: int, next: int = 0xFFFF) -> Program:
    """Jobs of chip ``rank``.

    "all_reduce"; "reduce_scatter", at whose end chunk ``rank`` + 1 is whole; "all_gather" of these chunks; "broadcast" of chip 0.
    """
    cuts = [region.words * i // chips for i in range(chips + 1)]

    def chunk(i: int) -> tuple[int, int]:
        return cuts[i % chips], cuts[i % chips + 1]

    if what == "broadcast":
        whole = (0, region.words)
        sends = [(*whole, 0 if rank else -1)] if rank < chips - 1 else []
        return jobs_of(region, sends, [(*whole, False)] if rank else [], id, next)
    first, last = {"all_reduce": (0, 2 * chips - 3), "reduce_scatter": (0, chips - 2), "all_gather": (chips - 1, 2 * chips - 3)}[
        what
    ]
    steps, needs = [], -1
    for step in range(first, last + 1):
        low, high = chunk(rank - step)
        steps.append((low, high, needs))
        needs = 0 if needs < 0 else needs + high - low
    receives = [(*chunk(rank - 1 - step), step <= chips - 2) for step in range(first, last + 1)]
    return jobs_of(region, steps, receives, id, next)


def expected(what: str, before: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Words (chips, words, lanes) after a collective. Of P banks, lanes are signed, of ``width`` bits; of X banks, bytes."""
    chips, words = before.shape[:2]
    after, half = before.copy(), 1 << (width - 1)
    cuts = [words * i // chips for i in range(chips + 1)]
    for rank in range(chips):
        for i in range(chips):
            # What comes to a chip of a chunk is of those that it has passed, from its own chip on.
            part, passed = slice(cuts[i], cuts[i + 1]), [(i + k) % chips for k in range((rank - i) % chips + 1)]
            if what == "all_reduce":
                passed = list(range(chips))
            elif what == "broadcast":
                passed = [0]
            elif what == "all_gather":
                passed = [(i - 1) % chips]
            after[rank, part] = (
                (before[passed, part].sum(axis=0) + half) % (1 << width) - half if width > 8 else before[passed[0], part]
            )
    return after


assert (P, X) == (CollectiveKind.P, CollectiveKind.X)


def block_bench(block: Block, alter: Callable[[str], str] | None = None) -> BlockBench:
    """A bench of a block, of whose Verilog ``alter`` makes a faulty one; for few long runs."""
    emitted = emit_block(block)
    ports: dict[str, list[Port]] = {"input": [], "output": []}
    for port in emitted.sidecar["ports"]:
        if port["name"] not in ("clk", "rst"):
            lanes = port["width"] // 8 if port["name"].endswith("_data") else 0
            ports[port["direction"]].append(Port(port["name"], 8 if lanes else port["width"], lanes))
    text = alter(emitted.verilog) if alter else emitted.verilog
    options = {"control": emitted.control, "random_initial_state": True, "depth": DEPTH}
    return BlockBench.of_sources(emitted.top, {"design.v": text}, ports["input"], ports["output"], **options)
