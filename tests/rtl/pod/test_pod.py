"""The pod in lockstep with its cycle model, on legal and on broken jobs, with random data inputs in every cycle."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from podweave.compiler.jobs import job_layouts
from podweave.golden.cycle.pod.pod import PodModel
from podweave.predict.chip import pod_geometry
from podweave.spec.config import ChipConfig
from podweave.spec.errors import PodError
from podweave.spec.jobs import Emit
from podweave.spec.presets import load_config
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.cases.pod_stimulus import PodStimulus, corrupt, pod_bench, pod_stimulus
from podweave.tb.lockstep.ports import LockstepError
from tests.fast import fast_of

CYCLES = 1600
WIDE = load_config("pod4").replace(
    pods=4, banks=4, x_words=96, w_words=50, p_words=75, x_planes=2, w_planes=2, p_planes=2, tile_width=3
)
# Times and counts of so few bits that a run reaches each of them.
SMALL = WIDE.replace(time_width=11, count_width=8)
CONFIGS = {
    "4x4": SMALL,
    "1x1": WIDE.replace(rows=1, cols=1, group_rows=1, group_cols=1, accumulator_rows=5),
    "4x8_of_2x4_no_accumulators": WIDE.replace(pods=1, banks=1, x_planes=4, w_planes=1, cols=8, group_rows=2, accumulator_rows=0),
    "6x2_of_1x1_psum20": WIDE.replace(
        rows=6, cols=2, group_rows=1, group_cols=1, psum_width=20, x_planes=2, p_planes=1, pods=8, banks=8
    ),
    "8x4_of_4x4_deep_queues": WIDE.replace(
        rows=8, x_planes=1, w_planes=1, p_planes=1, load_queue_depth=7, stream_queue_depth=3, accumulator_rows=11
    ),
    "4x4_without_tiles": WIDE.replace(tile_width=0),
    "1x9_of_1x3": WIDE.replace(rows=1, cols=9, group_rows=1, group_cols=3, load_queue_depth=2, stream_queue_depth=2),
}


@functools.cache
def bench_of(key: str) -> BlockBench:
    return pod_bench(CONFIGS[key], random_initial_state=True)


def stimulus_of(rng: np.random.Generator, config: ChipConfig, cycles: int = CYCLES) -> PodStimulus:
    return pod_stimulus(rng, pod_geometry(config), cycles, tiles=max(1, 2**config.pod.tile_width - 1))


def check(config: ChipConfig, bench: BlockBench, stimulus: PodStimulus, seed: int, **options: int) -> tuple[PodModel, int]:
    layouts = job_layouts(config)
    load = stimulus.pushes(layouts[0], stimulus.loads, stimulus.load_cycles)
    stream = stimulus.pushes(layouts[1], stimulus.streams, stimulus.stream_cycles)
    pod = PodModel(pod_geometry(config), stimulus.run, load, stream)
    observed = bench.run(stimulus.inputs(layouts), seed=seed, **options)
    return pod, bench.check(pod.outputs(stimulus.x_data, stimulus.w_data), observed)


@pytest.mark.parametrize("key", fast_of(CONFIGS, "4x4", "1x1", "1x9_of_1x3", "8x4_of_4x4_deep_queues"))
def test_random_legal_jobs(key: str) -> None:
    config = CONFIGS[key]
    for seed in range(3):
        stimulus = stimulus_of(np.random.default_rng([seed, len(key)]), config)
        pod, compared = check(config, bench_of(key), stimulus, seed)
        assert pod.first_error is None, pod.events
        # The stimulus did something: both engines ran all their jobs, words were written.
        assert len(pod.streams.job) == len(stimulus.streams) > 20
        assert len(pod.loads.job) == len(stimulus.loads) > 10
        assert pod.requests()["p_valid"].value.sum() > 50
        assert compared > CYCLES * 15


@pytest.mark.parametrize("key", CONFIGS)
@pytest.mark.more
def test_random_broken_jobs(key: str) -> None:
    """One field of a few jobs set to anything: whatever the hardware then does, it is what the model says."""
    config = CONFIGS[key]
    seen: set[str] = set()
    for seed in range(6):
        rng = np.random.default_rng([seed, 99, len(key)])
        stimulus = stimulus_of(rng, config, CYCLES // 2)
        for _ in range(int(rng.integers(1, 4))):
            corrupt(rng, stimulus, job_layouts(config))
        pod, _ = check(config, bench_of(key), stimulus, seed)
        seen |= {name for name, cycles in pod.events.items() if len(cycles)}
    assert seen, "no corruption had any effect"


@pytest.mark.campaign
@pytest.mark.parametrize("key", CONFIGS)
def test_campaign(key: str) -> None:
    """Many more of both kinds."""
    config = CONFIGS[key]
    for seed in range(100, 160):
        rng = np.random.default_rng([seed, len(key)])
        stimulus = stimulus_of(rng, config)
        for _ in range(int(rng.integers(0, 3))):
            corrupt(rng, stimulus, job_layouts(config))
        check(config, bench_of(key), stimulus, seed)


def late_load(s: PodStimulus) -> None:
    s.loads[3]["start"] = s.loads[2]["start"] + s.loads[2]["rows"] - 1


def late_stream(s: PodStimulus) -> None:
    s.streams[3]["start"] = s.streams[2]["start"]


def load_overflow(s: PodStimulus) -> None:
    first = s.load_cycles[0]
    s.loads[:] = [dict(s.loads[0], start=200 + 9 * i) for i in range(len(s.loads))]
    s.load_cycles[:] = [first + i for i in range(len(s.loads))]


def stream_overflow(s: PodStimulus) -> None:
    first = s.stream_cycles[0]
    s.streams[:] = [dict(s.streams[0], start=200 + 9 * i) for i in range(len(s.streams))]
    s.stream_cycles[:] = [first + i for i in range(len(s.streams))]


def illegal_load(s: PodStimulus) -> None:
    s.loads[4]["rows"] = 0


def illegal_stream(s: PodStimulus) -> None:
    s.streams[4]["emit"] = 3


def w_address(s: PodStimulus) -> None:
    s.loads[4]["w_base"], s.loads[4]["rows"], s.loads[4]["w_step"] = 49, 4, 1


def x_address(s: PodStimulus) -> None:
    s.streams[4].update(x_base=0, x_step0=-1, x_step1=-1, x_step2=-1, n0=3)


def p_address(s: PodStimulus) -> None:
    s.streams[4].update(p_base=74, p_step0=5, p_step1=1, p_step2=1, n0=3, emit=int(Emit.STORE))


def accumulator_address(s: PodStimulus) -> None:
    s.streams[4].update(accumulator_base=15, n0=3, accumulate=1)


def weights_not_loaded(s: PodStimulus) -> None:
    kept = next(i for i, job in enumerate(s.streams) if i > 3 and not job["swap"])
    s.streams[kept]["swap"] = 1


def weights_overwritten(s: PodStimulus) -> None:
    swap = [i for i, job in enumerate(s.streams) if job["swap"]][2]
    s.streams[swap]["swap"] = 0


def first_errors(pod: PodModel) -> set[str]:
    return {name for name, cycles in pod.events.items() if len(cycles) and cycles.min() == pod.first_error}


DIRECTED = {
    PodError.LATE_LOAD: late_load,
    PodError.LATE_STREAM: late_stream,
    PodError.LOAD_OVERFLOW: load_overflow,
    PodError.STREAM_OVERFLOW: stream_overflow,
    PodError.ILLEGAL_LOAD: illegal_load,
    PodError.ILLEGAL_STREAM: illegal_stream,
    PodError.W_ADDRESS: w_address,
    PodError.X_ADDRESS: x_address,
    PodError.P_ADDRESS: p_address,
    PodError.ACCUMULATOR_ADDRESS: accumulator_address,
    PodError.WEIGHTS_NOT_LOADED: weights_not_loaded,
    PodError.WEIGHTS_OVERWRITTEN: weights_overwritten,
}


@pytest.mark.parametrize("error", DIRECTED, ids=lambda error: error.name.lower())
def test_every_error_is_raised_named_and_sticky(error: PodError) -> None:
    stimulus = pod_stimulus(np.random.default_rng(5), pod_geometry(SMALL), CYCLES)
    DIRECTED[error](stimulus)
    pod, _ = check(SMALL, bench_of("4x4"), stimulus, seed=1)
    assert pod.first_error is not None
    assert error.name.lower() in first_errors(pod)
    # The RTL was equal to the model in every cycle: the bit is set, stays set, and no job starts any more.
    errors = pod.requests()["errors"].value
    assert not errors[pod.first_error] & 1 << error
    assert (errors[pod.first_error + 1 :] & 1 << error).all()
    assert not (pod.streams.begin > pod.first_error).any()
    assert not (pod.loads.begin > pod.first_error).any()


def three_tiles() -> PodStimulus:
    """Two jobs of three tiles: loads begin in cycles 16, 24 and 32, streams of 6 words in cycles 20, 28 and 36."""
    rng = np.random.default_rng(3)
    load = {"start": 10, "rows": 4, "w_bank": 2, "w_plane": 1, "w_base": 3, "w_step": 1, "tiles": 3, "period": 8}
    stream = {"start": 14, "swap": 1, "n0": 3, "n1": 2, "n2": 1, "accumulate": 1, "accumulator_base": 2, "emit": 1, "tiles": 3}
    stream |= {"period": 8, "x_tile_step": 7, "x_turn": 1, "x_bank": 1, "x_plane": 0, "x_base": 5, "p_bank": 2, "p_plane": 1}
    stream |= {"p_base": 60, **{f"{memory}_step{i}": 1 for memory in "xp" for i in range(3)}}
    run = np.arange(CYCLES) >= 6
    lanes = rng.integers(-128, 128, (2, CYCLES, 4)).astype(np.int8)
    return PodStimulus(run, [load], [0], [stream], [1], lanes[0], lanes[1])


# Error, of loads (0) or streams (1), what is different, and the cycle in which it is found.
TILE_FAULTS = [
    (PodError.LATE_LOAD, 0, {"period": 3}, 19),
    (PodError.LATE_STREAM, 1, {"period": 5}, 25),
    (PodError.ILLEGAL_LOAD, 0, {"tiles": 0}, 16),
    (PodError.ILLEGAL_LOAD, 0, {"period": 0}, 16),
    (PodError.ILLEGAL_STREAM, 1, {"tiles": 0}, 20),
    (PodError.ILLEGAL_STREAM, 1, {"period": 0}, 20),
    (PodError.ILLEGAL_STREAM, 1, {"swap": 0}, 20),
    # Among eight banks, of four.
    (PodError.ILLEGAL_STREAM, 1, {"x_turn": 3}, 20),
    (PodError.W_ADDRESS, 0, {"w_base": 46}, 25),
    (PodError.X_ADDRESS, 1, {"x_tile_step": 91}, 29),
    (PodError.X_ADDRESS, 1, {"x_turn": 0, "x_tile_step": -6}, 29),
    # The last tile emits, and no other.
    (PodError.P_ADDRESS, 1, {"p_base": 74}, 38),
    (PodError.P_ADDRESS, 1, {"p_base": 74, "accumulate": 0}, 22),
    (PodError.ACCUMULATOR_ADDRESS, 1, {"accumulator_base": 15}, 22),
    (PodError.WEIGHTS_NOT_LOADED, 0, {"period": 20}, 28),
    (PodError.WEIGHTS_NOT_LOADED, 1, {"period": 7}, 27),
    (PodError.WEIGHTS_OVERWRITTEN, 0, {"period": 4}, 24),
]


@pytest.mark.parametrize(("error", "kind", "different", "cycle"), TILE_FAULTS)
def test_errors_of_tiles_are_those_of_jobs(error: PodError, kind: int, different: dict[str, int], cycle: int) -> None:
    stimulus = three_tiles()
    (stimulus.loads, stimulus.streams)[kind][0].update(different)
    pod, _ = check(SMALL, bench_of("4x4"), stimulus, seed=1)
    assert (first_errors(pod), pod.first_error) == ({error.name.lower()}, cycle)
    # A job that has tiles left stays, as one stays in its queue that may not begin; the last tile begins in cycle 36.
    assert pod.requests()["busy"].value[cycle:].all() == (cycle < 36)


def test_tiles_turn_and_accumulate() -> None:
    """By hand: requests in banks 1, 0, 1, the address 7 further when the bank is 0 again; only the last tile is written."""
    pod, _ = check(SMALL, bench_of("4x4"), three_tiles(), seed=1)
    ports = pod.requests()
    assert pod.first_error is None
    assert np.flatnonzero(ports["w_request_valid"].value).tolist() == [*range(17, 21), *range(25, 29), *range(33, 37)]
    assert ports["w_request_address"].value[33] == 11
    requested = np.flatnonzero(ports["x_request_valid"].value)
    assert requested.tolist() == [*range(21, 27), *range(29, 35), *range(37, 43)]
    assert [ports[f"x_request_{part}"].value[[21, 29, 37, 42]].tolist() for part in ("bank", "address")] == [
        [1, 0, 1, 1],
        [5, 12, 12, 17],
    ]
    delay = pod_geometry(SMALL).psum_delay + 1
    assert np.flatnonzero(ports["p_valid"].value).tolist() == list(range(37 + delay, 43 + delay))
    assert np.flatnonzero(ports["busy"].value).tolist() == list(range(1, 43 + delay))


@pytest.mark.parametrize(("emit", "accumulates"), [(1, [0, 1, 1]), (2, [1, 1, 1])])
def test_tiles_without_accumulators_accumulate_in_the_p_bank(emit: int, accumulates: list[int]) -> None:
    stimulus = three_tiles()
    stimulus.streams[0].update(accumulate=0, emit=emit)
    pod, _ = check(SMALL, bench_of("4x4"), stimulus, seed=1)
    ports, delay = pod.requests(), pod_geometry(SMALL).psum_delay + 1
    assert ports["p_valid"].value.sum() == 18
    assert [ports["p_accumulate"].value[cycle + delay] for cycle in (21, 29, 37)] == accumulates
    assert [ports["p_address"].value[cycle + delay] for cycle in (21, 29, 37)] == [60, 60, 60]


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [(0, "tiles", 4), (0, "period", 9), (1, "tiles", 2), (1, "period", 9), (1, "x_tile_step", 6), (1, "x_turn", 0)],
)
def test_checker_sees_every_field_of_tiles(kind: int, field: str, value: int) -> None:
    """What the RTL does with three tiles is not what the model says of others."""
    stimulus, other = three_tiles(), three_tiles()
    (other.loads, other.streams)[kind][0][field] = value
    layouts = job_layouts(SMALL)
    load = other.pushes(layouts[0], other.loads, other.load_cycles)
    stream = other.pushes(layouts[1], other.streams, other.stream_cycles)
    expected = PodModel(pod_geometry(SMALL), other.run, load, stream).outputs(other.x_data, other.w_data)
    with pytest.raises(LockstepError, match="pod differs from its cycle model"):
        bench_of("4x4").check(expected, bench_of("4x4").run(stimulus.inputs(layouts)))


def test_a_job_of_tiles_is_those_jobs_of_one_tile() -> None:
    """Every port shows the same, but for the room in the queues and errors' times of pushes."""
    whole, single = three_tiles(), three_tiles()
    one = {"tiles": 1, "period": 0, "x_turn": 0, "x_tile_step": 0}
    single.loads[:] = [whole.loads[0] | one | {"start": 10 + 8 * t, "w_base": 3 + 4 * t} for t in range(3)]
    places = ((1, 5), (0, 12), (1, 12))
    single.streams[:] = [
        whole.streams[0]
        | one
        | {"start": 14 + 8 * t, "x_bank": bank, "x_base": base, "accumulate": 2 if t else 1, "emit": int(t == 2)}
        for t, (bank, base) in enumerate(places)
    ]
    single.load_cycles[:], single.stream_cycles[:] = [0, 1, 2], [1, 2, 3]
    layouts = job_layouts(SMALL)
    seen = [bench_of("4x4").run(stimulus.inputs(layouts), seed=0) for stimulus in (whole, single)]
    for name, values in seen[0].items():
        assert name in ("load_ready", "stream_ready") or (values == seen[1][name]).all(), name


def test_epoch_overflow() -> None:
    """One epoch of which the last cycle that has a time goes by."""
    most = (1 << SMALL.pod.time_width) - 1
    cycles = 2 * (most // 2 + 200)
    stimulus = stimulus_of(np.random.default_rng(4), SMALL, cycles)
    stimulus.run[6:] = True
    for kind, jobs in (("load", stimulus.loads), ("stream", stimulus.streams)):
        pushes = getattr(stimulus, f"{kind}_cycles")
        kept = [i for i, cycle in enumerate(pushes) if cycle < cycles // 2]
        jobs[:], pushes[:] = [jobs[i] for i in kept], [pushes[i] for i in kept]
    pod, _ = check(SMALL, bench_of("4x4"), stimulus, seed=0)
    assert pod.first_error is not None
    assert pod.events["epoch_overflow"][0] == pod.first_error == 6 + most


def test_every_error_has_a_directed_test() -> None:
    assert set(DIRECTED) | {PodError.EPOCH_OVERFLOW} == set(PodError)


def test_reset_in_mid_run_and_random_initial_state_change_nothing() -> None:
    stimulus = stimulus_of(np.random.default_rng(8), SMALL)
    for seed, cycle in enumerate((3, 100, 777)):
        check(SMALL, bench_of("4x4"), stimulus, seed=seed, reset_at=cycle)


def test_a_reset_clears_an_error() -> None:
    """Errors of a broken run leave no trace in a legal one after a reset."""
    bench, layouts = bench_of("4x4"), job_layouts(SMALL)
    broken = stimulus_of(np.random.default_rng(4), SMALL)
    illegal_stream(broken)
    legal = stimulus_of(np.random.default_rng(4), SMALL)
    # Both start alike; the reset comes when the broken one has long stopped.
    stimulus = broken.inputs(layouts)
    observed = bench.run(stimulus, reset_at=CYCLES // 2 - 20)
    assert observed["errors"][-1]
    assert not bench.run(legal.inputs(layouts), reset_at=CYCLES // 2 - 20)["errors"].any()


OUTPUTS = (
    *("load_ready", "stream_ready", "busy", "errors", "error_time"),
    *(f"{memory}_request_{part}" for memory in "wx" for part in ("valid", "bank", "plane", "address")),
    *("p_valid", "p_accumulate", "p_bank", "p_plane", "p_address", "p_data"),
)


def test_every_output_is_checked() -> None:
    assert sorted(OUTPUTS) == sorted(port.name for port in bench_of("4x4").outputs)


@pytest.mark.parametrize("port", OUTPUTS)
def test_checker_sees_one_flipped_bit_of_every_port(port: str) -> None:
    observed, expected = legal_run()
    values = observed[port].copy()
    at = (1234, values.shape[1] - 1) if values.ndim == 2 else (1234,)
    values[at] ^= 1
    lane = f" lane {at[1]}" if len(at) == 2 else ""
    with pytest.raises(LockstepError, match=rf"pod differs .* at cycle 1234, port {port}{lane}: expected"):
        bench_of("4x4").check(expected, {**observed, port: values})


@functools.cache
def legal_run() -> tuple[dict, dict]:
    stimulus = stimulus_of(np.random.default_rng(21), SMALL)
    layouts = job_layouts(SMALL)
    load = stimulus.pushes(layouts[0], stimulus.loads, stimulus.load_cycles)
    stream = stimulus.pushes(layouts[1], stimulus.streams, stimulus.stream_cycles)
    pod = PodModel(pod_geometry(SMALL), stimulus.run, load, stream)
    observed = bench_of("4x4").run(stimulus.inputs(layouts))
    expected = pod.outputs(stimulus.x_data, stimulus.w_data)
    bench_of("4x4").check(expected, observed)
    return observed, expected
