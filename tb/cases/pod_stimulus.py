"""Random stimulus for blocks: legal by construction, and ways to break it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.golden.cycle.pod.jobs import PodGeometry, Pushes
from podweave.rtl.parts.blocks import Block
from podweave.rtl.pod.array import Array
from podweave.rtl.pod.array_group import ArrayGroup
from podweave.rtl.pod.pod import Pod
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ArrayConfig
from podweave.spec.jobs import Accumulate, Emit
from podweave.spec.layout import Layout

from ..benches.block_bench import BlockBench

Stimulus = dict[str, NDArray]
Jobs = list[dict[str, int]]


def group_bench(config: ArrayConfig, *, random_initial_state: bool = False) -> BlockBench:
    rows, cols, psum = config.group_rows, config.group_cols, config.psum_width
    lanes = {"x": (8, rows, True), "w": (8, cols, True), "p": (psum, cols, True)}
    named = {f"{name}_{way}": shape for name, shape in lanes.items() for way in "io"}
    return BlockBench.of(ArrayGroup(config), named, random_initial_state=random_initial_state)


def array_bench(config: ArrayConfig, *, random_initial_state: bool = False) -> BlockBench:
    lanes = {
        "x": (8, config.rows, True),
        "w": (8, config.cols, True),
        "p": (config.psum_width, config.cols, True),
        "swap": (1, config.row_groups, False),
        "token": (1, config.col_groups, False),
    }
    return BlockBench.of(Array(config), lanes, random_initial_state=random_initial_state)


def pod_bench(config: ChipConfig, *, random_initial_state: bool = False) -> BlockBench:
    """A pod without memory: its data inputs are driven at will."""
    array = config.array
    lanes = {
        "x_data": (8, array.rows, True),
        "w_data": (8, array.cols, True),
        "p_data": (array.psum_width, array.cols, True),
    }
    block: Block = Pod(config)
    # Job words are packed by their layouts, bit by bit.
    lanes |= {f"{name}_job": (1, len(getattr(block, f"{name}_job")), False) for name in ("load", "stream")}
    return BlockBench.of(block, lanes, random_initial_state=random_initial_state)


def random_lanes(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """int8 lanes with the extreme values as likely as all others together."""
    values = rng.integers(-128, 128, shape)
    extremes = rng.choice([-128, -127, -1, 0, 1, 127], shape)
    return np.where(rng.random(shape) < 0.5, values, extremes).astype(np.int8)


def group_stimulus(rng: np.random.Generator, config: ArrayConfig, cycles: int) -> Stimulus:
    rows, cols, psum = config.group_rows, config.group_cols, config.psum_width
    half = 1 << (psum - 1)
    return {
        "x_i": random_lanes(rng, (cycles, rows)),
        "w_i": random_lanes(rng, (cycles, cols)),
        "p_i": rng.choice([rng.integers(-half, half, (cycles, cols)), rng.integers(-9, 10, (cycles, cols))]),
        "token_i": rng.random(cycles) < rng.choice([0.05, 0.5]),
        "swap_i": rng.random(cycles) < rng.choice([0.05, 0.5]),
    }


def array_stimulus(rng: np.random.Generator, config: ArrayConfig, cycles: int) -> Stimulus:
    return {
        "x": random_lanes(rng, (cycles, config.rows)),
        "w": random_lanes(rng, (cycles, config.cols)),
        "token": rng.random((cycles, config.col_groups)) < rng.choice([0.05, 0.4]),
        "swap": rng.random((cycles, config.row_groups)) < rng.choice([0.05, 0.4]),
    }


@dataclass
class PodStimulus:
    """Jobs with the cycles in which they are pushed, and everything else a pod sees."""

    run: NDArray[np.bool_]
    loads: Jobs
    load_cycles: list[int]
    streams: Jobs
    stream_cycles: list[int]
    x_data: NDArray[np.int8]
    w_data: NDArray[np.int8]

    def pushes(self, layout: Layout, jobs: Jobs, cycles: list[int]) -> Pushes:
        order = np.argsort(np.array(cycles, np.int64), kind="stable")
        fields = {f.name: np.array([jobs[i][f.name] for i in order], np.int64) for f in layout.fields}
        return Pushes(np.array(cycles, np.int64)[order], fields)

    def inputs(self, layouts: tuple[Layout, Layout]) -> Stimulus:
        cycles = len(self.run)
        result: Stimulus = {"run": self.run, "x_data": self.x_data, "w_data": self.w_data}
        for name, layout, jobs, when in (
            ("load", layouts[0], self.loads, self.load_cycles),
            ("stream", layouts[1], self.streams, self.stream_cycles),
        ):
            valid = np.zeros(cycles, bool)
            words = np.zeros((cycles, layout.width), np.int64)
            for job, cycle in zip(jobs, when, strict=True):
                valid[cycle] = True
                for field in layout.fields:
                    at = layout.offset(field.name)
                    words[cycle, at : at + field.width] = (job[field.name] >> np.arange(field.width)) & 1
            result |= {f"{name}_valid": valid, f"{name}_job": words}
        return result


def pod_stimulus(rng: np.random.Generator, geometry: PodGeometry, cycles: int, *, tiles: int = 1) -> PodStimulus:
    """Two epochs of random legal jobs, pushed at random times before they start; data inputs random in every cycle.

    ``tiles``: the most that a job has.
    """
    g = geometry
    half = cycles // 2
    run = np.zeros(cycles, bool)
    run[6 : half - 8] = True
    run[half + 6 :] = True
    stimulus = PodStimulus(run, [], [], [], [], random_lanes(rng, (cycles, g.rows)), random_lanes(rng, (cycles, g.cols)))
    for first, last, earliest in ((6, half - 9, 0), (half + 6, cycles - 1, half)):
        loads, streams = _epoch_jobs(rng, g, last - first - g.psum_delay, tiles)
        for jobs, into, when, depth in (
            (loads, stimulus.loads, stimulus.load_cycles, g.load_queue_depth),
            (streams, stimulus.streams, stimulus.stream_cycles, g.stream_queue_depth),
        ):
            when += _push_cycles(rng, [first + job["start"] for job in jobs], depth, earliest)
            into += jobs
    return stimulus


def _push_cycles(rng: np.random.Generator, begins: list[int], depth: int, earliest: int) -> list[int]:
    """Random push cycles: in time for each job to begin, and never into a full queue."""
    pushes: list[int] = []
    for i, begin in enumerate(begins):
        low = max(pushes[-1] + 1 if pushes else earliest, begins[i - depth] + 1 if i >= depth else earliest)
        pushes.append(int(rng.integers(low, begin)))
    return pushes


def _epoch_jobs(rng: np.random.Generator, g: PodGeometry, length: int, most: int) -> tuple[Jobs, Jobs]:
    loads: Jobs = []
    streams: Jobs = []
    # Epoch time 0 would have to be pushed before the epoch; leave room for random push times.
    load_free = stream_free = 2
    swapped = 0
    while True:
        rows = int(rng.integers(1, g.rows + 1)) if rng.random() < 0.3 else g.rows
        load_start = max(load_free, swapped) + _gap(rng)
        swap_start = max(load_start + rows, stream_free) + _gap(rng)
        tiles = int(rng.integers(2, most + 1)) if most > 1 and rng.random() < 0.5 else 1
        batch = [_stream_job(rng, g, swap_start, swap=True, tiles=tiles)]
        words = _words(batch[0])
        # Weights of a tile are loaded when those of the one before have been swapped in, and before its own are.
        period = max(rows, words, swap_start - load_start) + _gap(rng) if tiles > 1 else int(rng.integers(words + 2))
        batch[0]["period"] = period
        if tiles > 1 and rng.random() < 0.3:
            batch = [_stream_job(rng, g, swap_start + t * period, swap=True, most=words) for t in range(tiles)]
        swapped = swap_start + (tiles - 1) * period
        start = swapped + words
        for _ in range(int(rng.integers(3))):
            start += _gap(rng) if rng.random() < 0.5 else 0
            batch.append(_stream_job(rng, g, start, swap=False))
            start += _words(batch[-1])
        if start >= length:
            return loads, streams
        if rng.random() < 0.3:
            loads += [_load_job(rng, g, load_start + t * period, rows) for t in range(tiles)]
        else:
            loads.append(_load_job(rng, g, load_start, rows, tiles=tiles) | {"period": period})
        streams += batch
        load_free = load_start + (tiles - 1) * period + rows
        stream_free = start


def _words(job: dict[str, int]) -> int:
    return job["n0"] * job["n1"] * job["n2"]


def _gap(rng: np.random.Generator) -> int:
    return int(rng.choice([0, 0, 0, 1, 2, 7]))


def _load_job(rng: np.random.Generator, g: PodGeometry, start: int, rows: int, *, tiles: int = 1) -> dict[str, int]:
    steps = [step for step in (-3, -1, 0, 1, 1, 1, 2) if abs(step) * (tiles * rows - 1) < g.w_words]
    step = int(rng.choice(steps))
    span = step * (tiles * rows - 1)
    return {
        "start": start,
        "rows": rows,
        "w_bank": int(rng.integers(g.banks)),
        "w_plane": int(rng.integers(g.w_planes)),
        "w_base": int(rng.integers(max(0, -span), g.w_words - max(0, span))),
        "w_step": step,
        "tiles": tiles,
        "period": 0,
    }


def _stream_job(
    rng: np.random.Generator, g: PodGeometry, start: int, *, swap: bool, tiles: int = 1, most: int = 24
) -> dict[str, int]:
    """``most``: words of a tile."""
    accumulates = g.accumulator_rows > 0 and rng.random() < 0.7
    limit = min(most, g.accumulator_rows) if accumulates else most
    counts = [int(n) for n in rng.integers(1, 5, 3)]
    while np.prod(counts) > min(limit, g.x_words, g.p_words):
        counts[int(np.argmax(counts))] -= 1
    words = int(np.prod(counts))
    job = {"start": start, "swap": int(swap), **{f"n{i}": n for i, n in enumerate(counts)}, "tiles": tiles, "period": 0}
    job |= _tile_advance(rng, g, tiles)
    for memory, planes, size in (("x", g.x_planes, g.x_words), ("p", g.p_planes, g.p_words)):
        strides = [int(s) for s in rng.integers(-4, 5, 3)]
        ends = [s * (n - 1) for s, n in zip(strides, counts, strict=True)]
        low, high = sum(min(0, e) for e in ends), sum(max(0, e) for e in ends)
        if high - low >= size:
            strides, low, high = [0, 0, 0], 0, 0
        if memory == "x":
            # How often the first address advances from the first tile to the last.
            turned = (job["x_bank"] & (1 << job["x_turn"]) - 1) + tiles - 1 >> job["x_turn"]
            most_step = (size - 1 - (high - low)) // max(1, turned)
            job["x_tile_step"] = int(np.clip(rng.integers(-6, 7), -most_step, most_step))
            low += min(0, turned * job["x_tile_step"])
            high += max(0, turned * job["x_tile_step"])
        back0 = (counts[0] - 1) * strides[0]
        back1 = (counts[1] - 1) * strides[1] + back0
        job |= {
            f"{memory}_base": int(rng.integers(-low, size - high)),
            f"{memory}_plane": int(rng.integers(planes)),
            f"{memory}_step0": strides[0],
            f"{memory}_step1": strides[1] - back0,
            f"{memory}_step2": strides[2] - back1,
        }
    codes = [Accumulate.INIT, Accumulate.ADD, Accumulate.ADD, Accumulate.BYPASS] if accumulates else [Accumulate.BYPASS]
    job["accumulate"] = int(rng.choice(codes))
    job["accumulator_base"] = int(rng.integers(0, g.accumulator_rows - words + 1)) if accumulates else 0
    job["emit"] = int(rng.choice([Emit.NONE, Emit.STORE, Emit.ACCUMULATE]))
    return job


def _tile_advance(rng: np.random.Generator, g: PodGeometry, tiles: int) -> dict[str, int]:
    """Banks, and among how many X banks a job turns: those must all be there."""
    banks = {f"{memory}_bank": int(rng.integers(g.banks)) for memory in "xp"}
    turns = [turn for turn in range(g.banks.bit_length()) if banks["x_bank"] | (1 << turn) - 1 < g.banks]
    return {**banks, "x_turn": int(rng.choice(turns)) if tiles > 1 else 0}


def corrupt(rng: np.random.Generator, stimulus: PodStimulus, layouts: tuple[Layout, Layout]) -> str:
    """Set one field of one job to a random value that fits its bits; returns what was done."""
    kind = int(rng.integers(2))
    jobs = (stimulus.loads, stimulus.streams)[kind]
    job = int(rng.integers(len(jobs)))
    field = layouts[kind].fields[int(rng.integers(len(layouts[kind].fields)))]
    low = -(1 << (field.width - 1)) if field.signed else 0
    value = int(rng.integers(low, low + (1 << field.width)))
    if field.name == "start" and rng.random() < 0.8:
        value = max(0, jobs[job]["start"] + int(rng.integers(-6, 7)))
    if field.name in ("n0", "n1", "n2"):
        value = int(rng.integers(0, 8))
    if field.name == "period" and rng.random() < 0.8:
        value = int(rng.integers(0, 24))
    jobs[job][field.name] = value
    return f"{layouts[kind].name} {job}: {field.name} = {value}"
