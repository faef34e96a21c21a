"""The post-processor in lockstep with its cycle model, on legal and on broken jobs, with random P words in every cycle."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.chip.post import ERRORS, HostWrites, Parameters, PostGeometry, PostModel
from podweave.golden.cycle.pod.jobs import Pushes
from podweave.golden.cycle.ports import PortTrace
from podweave.golden.layers.requant import requantize
from podweave.rtl.post.post_processor import PostProcessor
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ArrayConfig, MemoryConfig, NetworkConfig, PodConfig, PostConfig, ProgramConfig
from podweave.spec.errors import PostError
from podweave.spec.jobs import Reduce, post_job_layout, post_parameters_layout
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.lockstep.ports import LockstepError

CYCLES = 2000
# The host writes all tables before the first epoch.
PROLOGUE = 780
Jobs = list[dict[str, int]]


def chip(rows: int, cols: int, *, psum_width: int = 32, planes: int = 1, queue_depth: int = 4, tables: int = 2) -> ChipConfig:
    return ChipConfig(
        name="post",
        pods=4,
        pod=PodConfig(array=ArrayConfig(rows=rows, cols=cols, psum_width=psum_width)),
        memory=MemoryConfig(banks=4, planes=planes, x_words=50, w_words=64, p_words=75),
        network=NetworkConfig(),
        post=PostConfig(parameter_sets=5, tables=tables, queue_depth=queue_depth),
        program=ProgramConfig(),
    )


CONFIGS = {
    "4x4": chip(4, 4),
    "8x4_psum20": chip(8, 4, psum_width=20, planes=2),
    "4x12": chip(4, 12, queue_depth=3, tables=3),
    "3x1_psum17": chip(3, 1, psum_width=17, planes=4, queue_depth=2, tables=1),
}


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
        planes=memory.planes,
        x_words=memory.x_words,
        p_words=memory.p_words,
        parameter_sets=post.parameter_sets,
        tables=post.tables,
        latency=config.post_latency,
    )


@functools.cache
def bench_of(key: str) -> BlockBench:
    config = CONFIGS[key]
    shapes = {
        "job": (1, post_job_layout(config).width, False),
        "p_data": (config.array.psum_width, config.array.cols, True),
        "y_data": (8, config.post_lanes, True),
        "parameter_data": (1, post_parameters_layout().width * config.array.cols, False),
    }
    return BlockBench.of(PostProcessor(config), shapes, random_initial_state=True)


@dataclass
class PostStimulus:
    """Jobs with the cycles in which they are pushed, and everything else a post-processor sees."""

    run: NDArray[np.bool_]
    jobs: Jobs
    job_cycles: list[int]
    p_data: NDArray[np.int64]
    parameters: Parameters

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
            for field in post_parameters_layout().fields
        ]
        return {
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


def random_parameters(rng: np.random.Generator, g: PostGeometry, cycles: int) -> Parameters:
    """All of them written once at the start, in a random order, and some again while words are under way."""
    shape = (cycles, g.cols)
    bias = rng.choice([rng.integers(-(1 << 31), 1 << 31, shape), rng.integers(-300, 300, shape)])
    bias = np.where(rng.random(shape) < 0.1, rng.choice([-(1 << 31), (1 << 31) - 1], shape), bias)
    multiplier = np.where(rng.random(shape) < 0.2, rng.choice([0, 1, (1 << 31) - 1], shape), rng.integers(1 << 30, 1 << 31, shape))
    # Scales from one that leaves full sums in 8 bits to one that leaves small ones alone, and extreme ones.
    shift = np.where(rng.random(shape) < 0.2, rng.choice([0, 1, 31, 62], shape), rng.integers(30, 30 + g.psum_width - 6, shape))
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
    stimulus = PostStimulus(run, [], [], p_data, random_parameters(rng, g, cycles))
    for first, last, earliest in ((PROLOGUE, half - 9, 0), (half + 6, cycles - 1, half)):
        jobs: Jobs = []
        start = 2
        while True:
            job = post_job(rng, g, start)
            words = job["n0"] * job["n1"] * job["n2"] * job["n3"]
            if first + start + words + g.latency > last:
                break
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
        "x_plane": int(rng.integers(g.planes)),
    }


def check(key: str, stimulus: PostStimulus, seed: int, **options: int) -> tuple[PostModel, dict[str, PortTrace]]:
    config, bench = CONFIGS[key], bench_of(key)
    model = stimulus.model(config)
    expected = model.outputs(stimulus.p_data, stimulus.parameters)
    bench.check(expected, bench.run(stimulus.inputs(config), seed=seed, **options))
    return model, expected


@pytest.mark.parametrize("key", CONFIGS)
def test_random_legal_jobs(key: str) -> None:
    for seed in range(3):
        stimulus = post_stimulus(np.random.default_rng([seed, len(key)]), CONFIGS[key])
        model, expected = check(key, stimulus, seed)
        assert model.first_error is None, model.events
        assert len(model.service.job) == len(stimulus.jobs) > 30
        words = expected["y_valid"].value.astype(bool)
        data = expected["y_data"]
        assert words.sum() > 200
        # Most words are known in spite of parameters that change under them, and many have not saturated.
        assert data.known[words].mean() > 0.9
        assert (np.abs(data.value[words]) < 127).mean() > 0.2


def corrupt(rng: np.random.Generator, stimulus: PostStimulus, config: ChipConfig) -> None:
    """One field of one job to a random value that fits its bits."""
    job = stimulus.jobs[int(rng.integers(len(stimulus.jobs)))]
    fields = post_job_layout(config).fields
    field = fields[int(rng.integers(len(fields)))]
    low = -(1 << (field.width - 1)) if field.signed else 0
    value = int(rng.integers(low, low + (1 << field.width)))
    if field.name == "start" and rng.random() < 0.8:
        value = max(0, job["start"] + int(rng.integers(-6, 7)))
    if field.name in ("n0", "n1", "n2", "n3"):
        value = int(rng.integers(0, 6))
    job[field.name] = value


@pytest.mark.parametrize("key", CONFIGS)
def test_random_broken_jobs(key: str) -> None:
    """One field of a few jobs set to anything: whatever the hardware then does, it is what the model says."""
    seen: set[str] = set()
    for seed in range(4):
        rng = np.random.default_rng([seed, 99, len(key)])
        stimulus = post_stimulus(rng, CONFIGS[key])
        for _ in range(int(rng.integers(1, 5))):
            corrupt(rng, stimulus, CONFIGS[key])
        model, _ = check(key, stimulus, seed)
        seen |= {name for name, cycles in model.events.items() if len(cycles)}
    assert seen, "no corruption had any effect"


@pytest.mark.campaign
@pytest.mark.parametrize("key", CONFIGS)
def test_campaign(key: str) -> None:
    """Many more of both kinds."""
    for seed in range(100, 160):
        rng = np.random.default_rng([seed, len(key)])
        stimulus = post_stimulus(rng, CONFIGS[key])
        for _ in range(int(rng.integers(0, 3))):
            corrupt(rng, stimulus, CONFIGS[key])
        check(key, stimulus, seed)


def late(s: PostStimulus) -> None:
    s.jobs[4]["start"] = s.jobs[3]["start"]


def overflow(s: PostStimulus) -> None:
    first = s.job_cycles[0]
    s.jobs[:] = [dict(s.jobs[0], start=200 + 9 * i) for i in range(6)]
    s.job_cycles[:] = [first + i for i in range(6)]


def p_address(s: PostStimulus) -> None:
    s.jobs[5].update(p_base=74, p_step0=1, n0=2, n1=1)


def x_address(s: PostStimulus) -> None:
    s.jobs[5].update(x_base=0, n2=2, x_step2=-1)


DIRECTED = {
    PostError.LATE: [late],
    PostError.OVERFLOW: [overflow],
    PostError.ILLEGAL: [
        *(lambda s, n=n: s.jobs[4].update({n: 0}) for n in ("n0", "n1", "n2", "n3")),
        *(lambda s, n=n: s.jobs[4].update({n: 1}) for n in ("x_plane", "slot")),
        *(lambda s, n=n, v=v: s.jobs[4].update({n: v}) for n, v in (("parameters", 5), ("table", 3), ("slice", 3))),
    ],
    PostError.P_ADDRESS: [p_address],
    PostError.X_ADDRESS: [x_address],
}


@pytest.mark.parametrize("error", DIRECTED, ids=lambda error: error.name.lower())
def test_every_error_is_raised_named_and_sticky(error: PostError) -> None:
    key = "4x12"
    for spoil in DIRECTED[error]:
        stimulus = post_stimulus(np.random.default_rng(4), CONFIGS[key])
        spoil(stimulus)
        model, expected = check(key, stimulus, seed=1)
        assert model.first_error is not None
        first = {name for name, cycles in model.events.items() if len(cycles) and cycles.min() == model.first_error}
        assert first == {error.name.lower()}
        # The RTL was equal to the model in every cycle: the bit is set, stays set, and no job starts any more.
        errors = expected["errors"].value
        assert not errors[: model.first_error + 1].any()
        assert (errors[model.first_error + 1 :] & 1 << error).all()
        assert expected["error_time"].value[-1] == model.next_time[model.first_error]
        assert not (model.service.begin > model.first_error).any()


def test_errors_have_the_names_and_bits_of_the_model() -> None:
    assert [error.name.lower() for error in PostError] == list(ERRORS)
    assert set(DIRECTED) == set(PostError)


def test_words_out_of_range_leave_no_trace() -> None:
    """By hand: three windows of two words, of which the last reads outside, or all but the first do, but not at their ends; then
    three outputs, of which the last is outside."""
    key = "4x4"
    stimulus = quiet(key, 120)
    shape = {"n0": 2, "n1": 1, "n2": 3, "n3": 1, "x_base": 48, "x_step2": 1}
    jobs = [
        base_job(start=5, **shape, p_base=71, p_step0=1, p_step2=1),
        base_job(start=5, **shape, p_base=73, p_step0=-3, p_step2=5),
        base_job(start=30, **shape | {"n0": 1}, p_base=10, p_step2=1),
    ]
    reads, writes = [[71, 72, 73, 74], [73, 70, 72, 74], [10, 11, 12]], [[48, 49], [48], [48, 49]]
    errors = [PostError.P_ADDRESS, PostError.P_ADDRESS, PostError.X_ADDRESS]
    for job, read, written, error in zip(jobs, reads, writes, errors, strict=True):
        stimulus.jobs, stimulus.job_cycles = [job], [1]
        check(key, stimulus, seed=2)
        observed = bench_of(key).run(stimulus.inputs(CONFIGS[key]))
        assert observed["p_read_address"][observed["p_read_enable"] == 1].tolist() == read
        assert observed["y_address"][observed["y_valid"] == 1].tolist() == written
        assert observed["errors"][-1] & 1 << error
        assert not observed["busy"][-1]


def quiet(key: str, cycles: int) -> PostStimulus:
    """No jobs; one epoch from cycle 10 on; P words 0; what the host writes is for the caller to say."""
    cols = CONFIGS[key].array.cols

    def nothing(*shape: int) -> HostWrites:
        return HostWrites(np.zeros(cycles, bool), np.zeros(cycles, np.int64), np.zeros((cycles, *shape), np.int64))

    run = np.arange(cycles) >= 10
    first, second, third, table = nothing(cols), nothing(cols), nothing(cols), nothing()
    # One port writes all three.
    second, third = (HostWrites(first.valid, first.address, part.data) for part in (second, third))
    return PostStimulus(run, [], [], np.zeros((cycles, cols), np.int64), Parameters(first, second, third, table))


def set_parameters(s: PostStimulus, cycle: int, address: int, bias: object, multiplier: object, shift: object) -> None:
    s.parameters.bias.valid[cycle], s.parameters.bias.address[cycle] = True, address
    for part, value in ((s.parameters.bias, bias), (s.parameters.multiplier, multiplier), (s.parameters.shift, shift)):
        part.data[cycle] = value


def base_job(**fields: int) -> dict[str, int]:
    names = [field.name for field in post_job_layout(CONFIGS["4x4"]).fields]
    return dict.fromkeys(names, 0) | {f"n{i}": 1 for i in range(4)} | fields


def words_of(key: str, stimulus: PostStimulus) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cycle, X address and data of each word of outputs of the RTL, in order; the cycle model is not asked."""
    observed = bench_of(key).run(stimulus.inputs(CONFIGS[key]))
    assert not observed["errors"].any()
    valid = observed["y_valid"] == 1
    return np.flatnonzero(valid), observed["y_address"][valid], observed["y_data"][valid]


@pytest.mark.parametrize("reduce", Reduce)
def test_pooling_three_by_three_with_stride_two(reduce: Reduce) -> None:
    """The contract itself, without the cycle model: 7 x 9 positions to 3 x 4, then bias, scale and table."""
    key, rng = "4x12", np.random.default_rng(6)
    height, width = 7, 9
    image = rng.integers(-500, 500, (height, width, 12))
    stimulus = quiet(key, 400)
    bias, multiplier, shift = rng.integers(-100, 100, 12), rng.integers(1 << 28, 1 << 31, 12), rng.integers(32, 36, 12)
    set_parameters(stimulus, 0, 3, bias, multiplier, shift)
    table = rng.integers(-128, 128, 256)
    stimulus.parameters.table.valid[:256] = True
    stimulus.parameters.table.address[:256] = 256 * 2 + np.arange(256)
    stimulus.parameters.table.data[:256] = table & 0xFF
    counts = [3, 3, 4, 3]
    where = {"p_base": 5, "x_base": 20, "slice": 2, "slot": 0}
    what = {"reduce": int(reduce), "parameters": 3, "activate": 1, "table": 2}
    job = base_job(start=270, **where, **what, **{f"n{i}": n for i, n in enumerate(counts)})
    x_steps = steps("x", [0, 0, 1, 4], [1, 1, 4, 3])
    job |= steps("p", [1, width, 2, 2 * width], counts) | {name: x_steps[name] for name in ("x_step2", "x_step3")}
    stimulus.jobs, stimulus.job_cycles = [job], [100]
    order = [(2 * y + v, 2 * x + u) for y, x, v, u in product(range(3), range(4), range(3), range(3))]
    # The word read in cycle t is on the port in cycle t + 1; the epoch begins in cycle 10, with time 0 in cycle 11.
    for i, (y, x) in enumerate(order):
        stimulus.p_data[11 + 270 + i + 1] = image[y, x]
    observed = bench_of(key).run(stimulus.inputs(CONFIGS[key]))
    read = observed["p_read_address"][observed["p_read_enable"] == 1]
    assert read.tolist() == [5 + width * y + x for y, x in order]

    windows = np.stack([image[y, x] for y, x in order]).reshape(12, 9, 12)
    reduced = (windows.max(axis=1) if reduce == Reduce.MAX else windows.sum(axis=1)) + bias
    outputs = table[requantize(reduced.astype(np.int32), multiplier, shift).astype(np.uint8)][:, 8:12]
    valid = observed["y_valid"] == 1
    assert observed["y_data"][valid].tolist() == outputs.tolist()
    assert observed["y_address"][valid].tolist() == list(range(20, 32))
    assert np.flatnonzero(valid).tolist() == [11 + 270 + 9 * i + 8 + 6 for i in range(12)]
    assert len(np.unique(outputs)) > 20


def test_requantises_as_the_golden_model_does_at_the_extremes() -> None:
    """Sums, multipliers and shifts at the ends of their ranges, and around one half; back to back, a set per job."""
    key = "4x4"
    sums = np.array([-(2**31), 2**31 - 1, -(2**31) + 1, 0, 1, -1, 3, -3, 2**30, -(2**30), 127, -129, 255, -255, 5, -5])
    scales = [(m, s) for m in (2**31 - 1, 2**30, 1, 0, 3) for s in (0, 1, 31, 62)]
    stimulus = quiet(key, 200)
    results = []
    for first in range(0, len(scales), 4):
        multiplier, shift = (np.array(part) for part in zip(*scales[first : first + 4], strict=True))
        index = first // 4
        set_parameters(stimulus, index, index, 0, multiplier, shift)
        stimulus.jobs.append(base_job(start=20 + 16 * index, n2=16, parameters=index, x_step2=1))
        stimulus.job_cycles.append(12 + 14 * index)
        for i, value in enumerate(sums):
            stimulus.p_data[11 + 20 + 16 * index + i + 1] = value
        results.append(requantize(np.repeat(sums[:, None], 4, axis=1).astype(np.int32), multiplier, shift))
    cycles, _, data = words_of(key, stimulus)
    np.testing.assert_array_equal(data, np.concatenate(results))
    # Jobs with different sets follow each other without a bubble.
    assert cycles.tolist() == [11 + 20 + 6 + i for i in range(80)]


def test_sum_and_bias_have_33_bits_and_sums_of_windows_wrap_at_32() -> None:
    key = "4x4"
    low, high = -(2**31), 2**31 - 1
    stimulus = quiet(key, 80)
    set_parameters(stimulus, 0, 0, [low, high, low, high], [1, 1, 2**31 - 1, 2**31 - 1], [26, 26, 57, 57])
    set_parameters(stimulus, 1, 1, 0, 1, 0)
    stimulus.jobs = [base_job(start=5, p_base=1), base_job(start=6, p_base=1, n0=3, reduce=int(Reduce.SUM), parameters=1)]
    stimulus.job_cycles = [2, 3]
    stimulus.p_data[11 + 5 + 1] = [low, high, low, high]
    stimulus.p_data[11 + 6 + 1 : 11 + 6 + 4] = [[high, low, -100, 1], [high, low, 60, 2], [7, -7, 1, 3]]
    _, _, data = words_of(key, stimulus)
    # -2**32 / 2**26 = -64 exactly; (2**32 - 2) / 2**26 rounds to 64.
    assert data.tolist() == [[-64, 64, -64, 64], [5, -7, -39, 6]]


def test_reset_in_mid_run_and_random_initial_state_change_nothing() -> None:
    key = "8x4_psum20"
    stimulus = post_stimulus(np.random.default_rng(8), CONFIGS[key])
    for seed, cycle in enumerate((3, 800, 1111)):
        check(key, stimulus, seed=seed, reset_at=cycle)


def test_a_reset_clears_an_error() -> None:
    key = "4x12"
    broken = post_stimulus(np.random.default_rng(4), CONFIGS[key])
    late(broken)
    assert bench_of(key).run(broken.inputs(CONFIGS[key]))["errors"][1200]
    # Up to the reset the run is the broken one, whose jobs are then late again: without an epoch, nothing is left of the error.
    inputs = broken.inputs(CONFIGS[key])
    observed = bench_of(key).run(inputs, reset_at=1200)
    assert not observed["errors"][: PROLOGUE + 2].any()
    assert not observed["busy"][: min(broken.job_cycles)].any()


OUTPUTS = (
    *("job_ready", "p_read_enable", "p_read_address", "busy", "errors", "error_time"),
    *("y_valid", "y_bank", "y_plane", "y_slot", "y_address", "y_data"),
)


@functools.cache
def legal_run() -> tuple[dict, dict]:
    key = "8x4_psum20"
    stimulus = post_stimulus(np.random.default_rng(21), CONFIGS[key])
    expected = stimulus.model(CONFIGS[key]).outputs(stimulus.p_data, stimulus.parameters)
    return bench_of(key).run(stimulus.inputs(CONFIGS[key])), expected


def test_every_output_is_checked() -> None:
    assert sorted(OUTPUTS) == sorted(port.name for port in bench_of("8x4_psum20").outputs)


@pytest.mark.parametrize("port", OUTPUTS)
def test_checker_sees_one_flipped_bit_of_every_port(port: str) -> None:
    observed, expected = legal_run()
    values, known = observed[port].copy(), expected[port].known
    cycle = int(np.flatnonzero(known.reshape(CYCLES, -1).all(axis=1) & (np.arange(CYCLES) > 1500))[0])
    at = (cycle, values.shape[1] - 1) if values.ndim == 2 else (cycle,)
    values[at] ^= 1
    lane = f" lane {at[1]}" if len(at) == 2 else ""
    with pytest.raises(LockstepError, match=rf"at cycle {cycle}, port {port}{lane}: expected"):
        bench_of("8x4_psum20").check(expected, {**observed, port: values})
