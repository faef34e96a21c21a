"""Random jobs, parameters and P words for post-processors, legal and broken, and the check of a run against its cycle model."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.golden.cycle.chip.host_writes import HostWrites
from podweave.golden.cycle.chip.post import Parameters, PostGeometry, PostModel
from podweave.golden.cycle.chip.row_words import RowInputs
from podweave.golden.cycle.chip.rows import RowGeometry
from podweave.golden.cycle.pod.jobs import Pushes
from podweave.golden.cycle.ports import PortTrace
from podweave.rtl.post.post_processor import PostProcessor
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ArrayConfig, MemoryConfig, NetworkConfig, PodConfig, PostConfig, ProgramConfig
from podweave.spec.jobs import post_job_layout, post_parameters_layout
from podweave.spec.row_functions import SCALAR_CYCLES, STATISTIC_WIDTH
from podweave.tb.benches.block_bench import BlockBench
from tests.rtl.post.row_jobs import RowJobs, random_row_inputs, turning

CYCLES = 2000
# The host writes all tables before the first epoch.
PROLOGUE = 780
Jobs = list[dict[str, int]]


def chip(
    rows: int, cols: int, *, psum_width: int = 32, y_planes: int = 1, tables: int = 2, bits: tuple[int, int] = (24, 16), **post: Any
) -> ChipConfig:
    """``bits``: of times and counts."""
    array = ArrayConfig(rows=rows, cols=cols, psum_width=psum_width)
    return ChipConfig(
        name="post",
        pods=4,
        pod=PodConfig(array=array, time_width=bits[0], count_width=bits[1]),
        memory=MemoryConfig(banks=4, y_planes=y_planes, x_words=50, w_words=64, p_words=75),
        network=NetworkConfig(),
        post=PostConfig(parameter_sets=5, tables=tables, **post),
        program=ProgramConfig(),
    )


CONFIGS = {
    "4x4": chip(4, 4),
    "8x4_psum20": chip(8, 4, psum_width=20, y_planes=2),
    "4x12": chip(4, 12, queue_depth=3, tables=3),
    "3x1_psum17": chip(3, 1, psum_width=17, y_planes=4, queue_depth=2, tables=1),
    "4x12_lanes2_even": chip(4, 12, lanes=2, rounding="half_even"),
    "8x8_lanes4_scale24": chip(8, 8, lanes=4, scale_bits=24),
    "4x4_scale16_even": chip(4, 4, scale_bits=16, rounding="half_even"),
    "4x8_lanes2_sum23_scale17": chip(4, 8, lanes=2, sum_bits=23, scale_bits=17),
    "4x4_psum24_sum20_scale24_even": chip(4, 4, psum_width=24, sum_bits=20, scale_bits=24, rounding="half_even"),
    "4x4_sum20_scale24_even_zero": chip(4, 4, sum_bits=20, scale_bits=24, rounding="half_even", zero_points=True),
    # Times and counts of so few bits that a run reaches each of them; slices, slots and tables that there are none of.
    "4x12_lanes2_zero": chip(4, 12, lanes=2, zero_points=True, tables=3, queue_depth=3, window_width=4, bits=(11, 7)),
    "rows_4x4": chip(4, 4, row_registers=16),
    "rows_8x4_lanes2_psum24_even": chip(
        8, 4, psum_width=24, y_planes=2, lanes=2, row_registers=32, rounding="half_even", tables=4, queue_depth=3
    ),
    "rows_16x16_lanes4": chip(16, 16, lanes=4, row_registers=64),
    "rows_8x8_lanes4_scale17": chip(8, 8, lanes=4, row_registers=64, scale_bits=17),
    "rows_2x2_psum20_scale18": chip(2, 2, psum_width=20, row_registers=16, scale_bits=18),
    "rows_4x4_lanes2_even_zero": chip(4, 4, lanes=2, row_registers=16, scale_bits=24, rounding="half_even", zero_points=True),
}
ROWS = tuple(key for key in CONFIGS if key.startswith("rows"))


def geometry_of(config: ChipConfig) -> PostGeometry:
    array, memory, post = config.array, config.memory, config.post
    assert post is not None
    return PostGeometry(
        rows=array.rows,
        cols=array.cols,
        psum_width=array.psum_width,
        queue_depth=post.queue_depth,
        time_width=config.pod.time_width,
        banks=memory.banks,
        y_planes=memory.y_planes,
        x_words=memory.x_words,
        p_words=memory.p_words,
        parameter_sets=post.parameter_sets,
        tables=post.tables,
        latency=config.post_latency,
        beats=config.post_beats,
        even=post.rounding == "half_even",
        sum_bits=post.sum_bits,
        functions=RowGeometry(registers=post.row_registers, stages=config.network_stages, scalar_cycles=SCALAR_CYCLES)
        if config.has_rows
        else None,
    )


@functools.cache
def bench_of(key: str) -> BlockBench:
    config = CONFIGS[key]
    shapes = {
        "job": (1, post_job_layout(config).width, False),
        "p_data": (config.array.psum_width, config.array.cols, True),
        "y_data": (8, config.post_lanes, True),
        "parameter_data": (1, post_parameters_layout(config).width * config.array.cols, False),
    }
    if config.has_rows:
        shapes |= dict.fromkeys(("total", "value", "sent_value"), (STATISTIC_WIDTH, 0, True))
        shapes["own_data"] = (config.array.psum_width, config.array.cols, True)
    return BlockBench.of(PostProcessor(config), shapes, random_initial_state=True)


@dataclass
class PostStimulus:
    """Jobs with the cycles in which they are pushed, and everything else a post-processor sees."""

    run: NDArray[np.bool_]
    jobs: Jobs
    job_cycles: list[int]
    p_data: NDArray[np.int64]
    parameters: Parameters
    rows: RowInputs | None = None

    def model(self, config: ChipConfig) -> PostModel:
        order = np.argsort(np.array(self.job_cycles, np.int64), kind="stable")
        names = [field.name for field in post_job_layout(config).fields]
        fields = {name: np.array([self.jobs[i][name] for i in order], np.int64) for name in names}
        return PostModel(geometry_of(config), self.run, Pushes(np.array(self.job_cycles, np.int64)[order], fields))

    def inputs(self, config: ChipConfig) -> dict[str, NDArray]:
        layout, cycles = post_job_layout(config), len(self.run)
        job_valid, words = np.zeros(cycles, bool), np.zeros((cycles, layout.width), np.int64)
        for job, cycle in zip(self.jobs, self.job_cycles, strict=True):
            job_valid[cycle] = True
            for field in layout.fields:
                at = layout.offset(field.name)
                words[cycle, at : at + field.width] = (job[field.name] >> np.arange(field.width)) & 1
        written = self.parameters
        lanes = [
            (getattr(written, field.name).data[:, :, None] >> np.arange(field.width)) & 1
            for field in post_parameters_layout(config).fields
        ]
        rows: dict[str, NDArray] = {}
        if self.rows:
            lengths = self.rows.lengths
            rows = {name: getattr(self.rows, name) for name in ("total", "place", "value_read", "value_row")}
            rows |= {"length_write": lengths.valid, "length_address": lengths.address, "length_data": lengths.data}
        return rows | {
            "run": self.run,
            "job_valid": job_valid,
            "job": words,
            "p_data": self.p_data,
            "parameter_write": written.bias.valid,
            "parameter_address": written.bias.address,
            "parameter_data": np.concatenate(lanes, axis=2).reshape(cycles, -1),
            "table_write": written.table.valid,
            "table_address": written.table.address,
            "table_data": written.table.data,
        }


def random_parameters(rng: np.random.Generator, g: PostGeometry, cycles: int, scale_bits: int) -> Parameters:
    """All of them written once at the start, in a random order, and some again while words are under way."""
    shape = (cycles, g.cols)
    bias = rng.choice([rng.integers(-(1 << 31), 1 << 31, shape), rng.integers(-300, 300, shape)])
    bias = np.where(rng.random(shape) < 0.1, rng.choice([-(1 << 31), (1 << 31) - 1], shape), bias)
    most = 1 << scale_bits
    multiplier = np.where(rng.random(shape) < 0.2, rng.choice([0, 1, most - 1], shape), rng.integers(most >> 1, most, shape))
    # Scales from one that leaves full sums in 8 bits to one that leaves small ones alone, and extreme ones.
    usual = rng.integers(scale_bits - 1, scale_bits + g.psum_width - 7, shape)
    shift = np.where(rng.random(shape) < 0.2, rng.choice([0, 1, 31, 62], shape), usual)
    valid = rng.random((2, cycles)) < [[0.01], [0.3]]
    address = [rng.integers(0, g.parameter_sets, cycles), rng.integers(0, 256 * g.tables, cycles)]
    for port, entries in enumerate((g.parameter_sets, 256 * g.tables)):
        valid[port, :entries], address[port][:entries] = True, rng.permutation(entries)
    parts = (HostWrites(valid[0], address[0], data) for data in (bias, multiplier, shift))
    return Parameters(*parts, HostWrites(valid[1], address[1], rng.integers(0, 256, cycles)))


def post_stimulus(rng: np.random.Generator, config: ChipConfig, cycles: int = CYCLES) -> PostStimulus:
    """Two epochs of random legal jobs, pushed at random times before they start; P words random in every cycle."""
    g = geometry_of(config)
    half = (PROLOGUE + cycles) // 2
    run = np.zeros(cycles, bool)
    run[PROLOGUE : half - 8] = True
    run[half + 6 :] = True
    limit = 1 << (g.psum_width - 1)
    large = rng.random(cycles) < rng.choice([0, 0.5, 1], cycles // 100 + 1).repeat(100)[:cycles]
    p_data = np.where(large[:, None], rng.integers(-limit, limit, (cycles, g.cols)), rng.integers(-300, 300, (cycles, g.cols)))
    p_data = np.where(rng.random(p_data.shape) < 0.05, rng.choice([-limit, limit - 1], p_data.shape), p_data)
    inputs = random_row_inputs(rng, g, run) if g.functions else None
    written = random_parameters(rng, g, cycles, config.scale_bits)
    if config.post and config.post.zero_points:
        first = written.bias
        added = HostWrites(first.valid, first.address, rng.integers(-128, 128, (cycles, g.cols)))
        written = replace(written, zero_point=added)
    stimulus = PostStimulus(run, [], [], p_data, written, inputs)
    row_jobs = RowJobs(rng, g)
    for first, last, earliest in ((PROLOGUE, half - 9, 0), (half + 6, cycles - 1, half)):
        jobs: Jobs = []
        start = 2
        while True:
            job = post_job(rng, g, start)
            if g.functions:
                row_jobs.extend(job, first)
            words = job["n2"] * job["n3"] * (job["n0"] * job["n1"] + g.beats - 1 + turning(g, job) + job.get("gap", 0))
            if first + start + words + g.latency + turning(g, job) > last:
                break
            if g.functions:
                row_jobs.accept(job, first)
            jobs.append(job)
            start += words + int(rng.choice([0, 0, 0, 1, 2, 9]))
        pushes: list[int] = []
        for i, job in enumerate(jobs):
            # In time to begin, and never into a full queue.
            low = max(
                pushes[-1] + 1 if pushes else earliest, first + jobs[i - g.queue_depth]["start"] + 1 if i >= g.queue_depth else 0
            )
            pushes.append(int(rng.integers(low, first + job["start"])))
        stimulus.jobs += jobs
        stimulus.job_cycles += pushes
    return stimulus


def steps(name: str, strides: list[int], counts: list[int]) -> dict[str, int]:
    """What an address grows by when loop i advances, so that it is base plus the sum of index times stride."""
    back = [sum(strides[j] * (counts[j] - 1) for j in range(i)) for i in range(len(counts))]
    return {f"{name}_step{i}": strides[i] - back[i] for i in range(len(counts))}


def post_job(rng: np.random.Generator, g: PostGeometry, start: int) -> dict[str, int]:
    counts = [int(n) for n in rng.choice([1, 1, 2, 3, 4], 4)]
    if rng.random() < 0.5:
        counts[:2] = [1, 1]
    job = {"start": start, **{f"n{i}": n for i, n in enumerate(counts)}}
    for name, size, loops in (("p", g.p_words, range(4)), ("x", g.x_words, (2, 3))):
        strides = [int(s) if i in loops else 0 for i, s in enumerate(rng.integers(-4, 5, 4))]
        spans = [s * (n - 1) for s, n in zip(strides, counts, strict=True)]
        low, high = sum(min(0, e) for e in spans), sum(max(0, e) for e in spans)
        job[f"{name}_base"] = int(rng.integers(-low, size - high))
        job |= {key: step for key, step in steps(name, strides, counts).items() if name == "p" or key[-1] in "23"}
    return job | {
        "reduce": int(rng.integers(2)),
        "parameters": int(rng.integers(g.parameter_sets)),
        "activate": int(rng.integers(2)),
        "table": int(rng.integers(g.tables)),
        "slice": int(rng.integers(g.cols // g.lanes)),
        "slot": int(rng.integers(g.rows // g.lanes)),
        "x_bank": int(rng.integers(g.banks)),
        "x_plane": int(rng.integers(g.y_planes)),
    }


def check(key: str, stimulus: PostStimulus, seed: int, **options: int) -> tuple[PostModel, dict[str, PortTrace]]:
    config, bench = CONFIGS[key], bench_of(key)
    model = stimulus.model(config)
    expected = model.outputs(stimulus.p_data, stimulus.parameters, stimulus.rows)
    bench.check(expected, bench.run(stimulus.inputs(config), seed=seed, **options))
    return model, expected


def quiet(key: str, cycles: int) -> PostStimulus:
    """No jobs; one epoch from cycle 10 on; P words 0; what the host writes is for the caller to say."""
    cols = CONFIGS[key].array.cols

    def nothing(*shape: int) -> HostWrites:
        return HostWrites(np.zeros(cycles, bool), np.zeros(cycles, np.int64), np.zeros((cycles, *shape), np.int64))

    run = np.arange(cycles) >= 10
    first, second, third, table = nothing(cols), nothing(cols), nothing(cols), nothing()
    # One port writes all of them.
    second, third = (HostWrites(first.valid, first.address, part.data) for part in (second, third))
    rows = RowInputs(*(table.address.copy() for _ in range(2)), nothing(), run & False, table.address.copy())
    post = CONFIGS[key].post
    parameters = Parameters(first, second, third, table, first if post and post.zero_points else None)
    return PostStimulus(run, [], [], np.zeros((cycles, cols), np.int64), parameters, rows if CONFIGS[key].has_rows else None)


def set_parameters(s: PostStimulus, cycle: int, address: int, bias: object, multiplier: object, shift: object) -> None:
    s.parameters.bias.valid[cycle], s.parameters.bias.address[cycle] = True, address
    for part, value in ((s.parameters.bias, bias), (s.parameters.multiplier, multiplier), (s.parameters.shift, shift)):
        part.data[cycle] = value


def base_job(key: str = "4x4", **fields: int) -> dict[str, int]:
    """A job of one word, with these fields; all others are 0."""
    names = [field.name for field in post_job_layout(CONFIGS[key]).fields]
    return dict.fromkeys(names, 0) | {f"n{i}": 1 for i in range(4)} | fields


def words_of(key: str, stimulus: PostStimulus) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cycle, X address and data of each word of outputs of the RTL, in order; the cycle model is not asked."""
    observed = bench_of(key).run(stimulus.inputs(CONFIGS[key]))
    assert not observed["errors"].any()
    valid = observed["y_valid"] == 1
    return np.flatnonzero(valid), observed["y_address"][valid], observed["y_data"][valid]
