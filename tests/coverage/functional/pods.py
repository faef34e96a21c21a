"""Points of pods and post-processors: kinds of jobs, loops, places, errors, queues."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from podweave.golden.cycle.chip.post import ERRORS as POST_ERRORS
from podweave.golden.cycle.chip.post import PostModel
from podweave.golden.cycle.pod.jobs import ERRORS as POD_ERRORS
from podweave.golden.cycle.pod.jobs import Service
from podweave.golden.cycle.pod.pod import PodModel
from podweave.golden.cycle.pod.tiles import taken, words_of
from podweave.spec.jobs import Accumulate, Emit, Reduce
from podweave.spec.row_functions import Combine, Destination, Saturate, Scalar, Statistic
from tests.coverage.functional.tally import FOLLOWS, SIGNS, Hit, both_ends, crossed, ends, follows, loops_of, several, sign


def _codes(kind: Any) -> list[str]:
    return [code.name for code in kind]


_ROWS, _TILES = ("one row", "some rows", "all rows"), ("one tile", "several tiles")
_SWAPS = ("keeps weights", "swaps weights")
_LOOPS = ("n0", "n1", "n2")
_STREAM_STEPS = tuple(f"{bank}_step{i}" for bank in "xp" for i in range(3))
_POST_STEPS = ("p_step0", "p_step1", "p_step2", "p_step3", "x_step2", "x_step3")
_LEVELS = ("empty", "neither", "full")
_STREAMS = ("nothing streams", "a job streams")
# Of a word of a job that streams, or of the cycle before its first.
_OF_WORDS = ("x_address", "p_address", "accumulator_address")

POD_POINTS = {
    "load jobs": crossed(_ROWS, _TILES, FOLLOWS),
    "load jobs: places": [*both_ends("W word", "W bank", "W plane"), *crossed(["w_step"], SIGNS)],
    "stream jobs": [
        name
        for name in crossed(_codes(Accumulate), _codes(Emit), _SWAPS, _TILES)
        # Every tile has weights of its own.
        if not name.endswith("keeps weights, several tiles")
    ],
    "stream jobs: loops": crossed(several(_LOOPS), FOLLOWS),
    "stream jobs: places": [
        *both_ends("X word", "P word", "accumulator", "X bank", "P bank", "X plane", "P plane"),
        *crossed(_STREAM_STEPS, SIGNS),
        *(f"X bank turns among {among}" for among in ("1", "2", "4 or more")),
    ],
    "pod: errors": [
        name for name in crossed(POD_ERRORS, _STREAMS) if not (name.startswith(_OF_WORDS) and name.endswith(_STREAMS[0]))
    ],
    "pod: queues": crossed(("loads", "streams", "loads pushed", "streams pushed"), _LEVELS),
}

_WINDOWS = several(("n0", "n1", "n2", "n3"))
_LOOKS = ("no table", "a table", "a wide table")
_REGISTERS = ("neither", "subtracts", "scales", "subtracts and scales")
_MASKS = ("whole rows", "masked")
_WHOSE = ("of the first job", "of a later one")
# Of a job that has begun itself.
_OF_BEGUN = ("p_address", "x_address", "row_not_ready", "scalar_busy")
POST_POINTS = {
    "post jobs": crossed(_codes(Reduce)[:2], ("no table", "a table"), FOLLOWS),
    "post jobs: loops": _WINDOWS,
    "post jobs: places": [
        *both_ends("P word", "X word", "X bank", "X plane", "slice", "slot", "parameters", "table"),
        *crossed(_POST_STEPS, SIGNS),
    ],
    "post-processor: errors": crossed(POST_ERRORS, _WHOSE),
    "post-processor: queues": crossed(("jobs", "jobs pushed"), _LEVELS),
    "row jobs: reduce and combine": crossed(_codes(Reduce), _codes(Combine)),
    "row jobs: reduce and destination": crossed(_codes(Reduce), _codes(Destination)),
    "row jobs: saturate and destination": crossed(_codes(Saturate), _codes(Destination)),
    "row jobs: saturate and table": crossed(_codes(Saturate), _LOOKS),
    "row jobs: statistic and scalar": crossed(_codes(Statistic), _codes(Scalar)),
    "row jobs: statistic and mask": crossed(_codes(Statistic), _MASKS),
    "row jobs: registers and combine": crossed(_REGISTERS, _codes(Combine)),
    "row jobs: steps": [
        *crossed(("length_step", "parameters_step", "gap", "element"), ("0", "more")),
        *both_ends("level", "row"),
    ],
}


def pod_hits(model: PodModel) -> Iterator[Hit]:
    """What a pod does in a stimulus, by its model."""
    g, load, stream = model.geometry, model.load.fields, model.stream.fields
    loads, streams = model.loads, model.streams
    length = taken(load, load["rows"])[loads.job]
    for i, when in zip(loads.job, follows(loads.begin, length), strict=True):
        rows = _ROWS[2 if load["rows"][i] == g.rows else int(load["rows"][i] > 1)]
        yield "load jobs", f"{rows}, {_TILES[int(load['tiles'][i] > 1)]}, {when}"
        if load["rows"][i] > 1:
            yield "load jobs: places", f"w_step, {sign(load['w_step'][i])}"
    words = model.w_words
    yield from ends("load jobs: places", "W word", words.address["w"][words.fits], g.w_words)
    yield from ends("load jobs: places", "W bank", load["w_bank"][loads.job], g.banks)
    if g.w_planes > 1:
        yield from ends("load jobs: places", "W plane", load["w_plane"][loads.job], g.w_planes)

    length = taken(stream, words_of(stream))[streams.job]
    for i, when in zip(streams.job, follows(streams.begin, length), strict=True):
        code, emit = Accumulate(stream["accumulate"][i]).name, Emit(stream["emit"][i]).name
        yield "stream jobs", f"{code}, {emit}, {_SWAPS[stream['swap'][i]]}, {_TILES[int(stream['tiles'][i] > 1)]}"
        yield "stream jobs: loops", f"{loops_of(stream, i, _LOOPS)}, {when}"
        for name in _STREAM_STEPS:
            if stream[f"n{name[-1]}"][i] > 1:
                yield "stream jobs: places", f"{name}, {sign(stream[name][i])}"
        among = 1 << int(stream["x_turn"][i])
        if stream["tiles"][i] > 1:
            yield "stream jobs: places", f"X bank turns among {among if among < 4 else '4 or more'}"
    yield from _stream_places(model)
    yield from _pod_errors(model)
    for name, service, depth in (("loads", loads, g.load_queue_depth), ("streams", streams, g.stream_queue_depth)):
        pushed = (model.load if name == "loads" else model.stream).cycle
        yield from _queue("pod: queues", name, service, depth, pushed)


def _stream_places(model: PodModel) -> Iterator[Hit]:
    g, words, fields, group = model.geometry, model.x_words, model.x_tiles.fields, "stream jobs: places"
    emits = words.fits & (fields["emit"][words.tile] != Emit.NONE)
    sums = words.fits & (fields["accumulate"][words.tile] != Accumulate.BYPASS)
    yield from ends(group, "X word", words.address["x"][words.fits], g.x_words)
    yield from ends(group, "P word", words.address["p"][emits], g.p_words)
    yield from ends(group, "accumulator", words.address["accumulator"][sums], g.accumulator_rows)
    yield from ends(group, "X bank", fields["x_bank"], g.banks)
    yield from ends(group, "P bank", fields["p_bank"][words.tile[emits]], g.banks)
    if g.x_planes > 1:
        yield from ends(group, "X plane", fields["x_plane"], g.x_planes)
    if g.p_planes > 1:
        yield from ends(group, "P plane", fields["p_plane"][words.tile[emits]], g.p_planes)


def _pod_errors(model: PodModel) -> Iterator[Hit]:
    """Of errors, the first."""
    if model.first_error is None:
        return
    streams = bool((model.x_words.cycle == model.first_error).any())
    for name, cycles in model.events.items():
        if (cycles == model.first_error).any():
            yield "pod: errors", f"{name}, {_STREAMS[int(streams)]}"


def _queue(group: str, name: str, service: Service, depth: int, pushed: Any) -> Iterator[Hit]:
    for what, levels in ((name, service.level), (f"{name} pushed", service.level[pushed])):
        for level in np.unique(levels).tolist():
            yield group, f"{what}, {_LEVELS[0 if not level else 1 + (level >= depth)]}"


def post_hits(model: PostModel) -> Iterator[Hit]:
    """What a post-processor does in a stimulus, by its model."""
    g, fields, service = model.geometry, model.jobs.fields, model.service
    jobs, functions = service.job, g.functions
    length = (model.period * fields["n2"] * fields["n3"])[jobs]
    for i, when in zip(jobs, follows(service.begin, length), strict=True):
        look = _LOOKS[int(fields["activate"][i])]
        if not functions:
            yield "post jobs", f"{Reduce(fields['reduce'][i]).name}, {look}, {when}"
        yield "post jobs: loops", loops_of(fields, i, ("n0", "n1", "n2", "n3"))
        for name in _POST_STEPS:
            if fields[f"n{name[-1]}"][i] > 1:
                yield "post jobs: places", f"{name}, {sign(fields[name][i])}"
        if functions:
            yield from _row_job(model, i)
    group = "post jobs: places"
    yield from ends(group, "P word", model.p_address[model.p_fits], g.p_words)
    x_jobs = fields["destination"][model.out_job] == Destination.X if functions else np.ones(len(model.out_job), bool)
    yield from ends(group, "X word", model.out_address[x_jobs], g.x_words)
    counts = {
        "x_bank": ("X bank", g.banks),
        "x_plane": ("X plane", g.y_planes),
        "slice": ("slice", g.cols // g.lanes),
        "slot": ("slot", g.rows // g.lanes),
        "parameters": ("parameters", g.parameter_sets),
        "table": ("table", g.tables),
    }
    for name, (what, count) in counts.items():
        if count > 1 and name in fields:
            yield from ends(group, what, fields[name][jobs], count)
    if model.first_error is not None:
        begun = int((service.begin < model.first_error).sum())
        for name, cycles in model.events.items():
            if (cycles == model.first_error).any():
                yield "post-processor: errors", f"{name}, {_WHOSE[int(begun > (name in _OF_BEGUN))]}"
    yield from _queue("post-processor: queues", "jobs", service, g.queue_depth, model.jobs.cycle)


def _row_job(model: PostModel, i: int) -> Iterator[Hit]:
    fields = {name: int(values[i]) for name, values in model.jobs.fields.items()}
    functions = model.geometry.functions
    assert functions is not None
    reduce, combine = Reduce(fields["reduce"]).name, Combine(fields["combine"]).name
    destination, saturate = Destination(fields["destination"]).name, Saturate(fields["saturate"]).name
    statistic, look = Statistic(fields["statistic"]).name, fields["activate"] * (1 + fields["wide_table"])
    yield "row jobs: reduce and combine", f"{reduce}, {combine}"
    yield "row jobs: reduce and destination", f"{reduce}, {destination}"
    yield "row jobs: saturate and destination", f"{saturate}, {destination}"
    yield "row jobs: saturate and table", f"{saturate}, {_LOOKS[look]}"
    yield "row jobs: statistic and scalar", f"{statistic}, {Scalar(fields['scalar']).name}"
    yield "row jobs: statistic and mask", f"{statistic}, {_MASKS[fields['masked']]}"
    yield "row jobs: registers and combine", f"{_REGISTERS[fields['subtract'] + 2 * fields['row_scale']]}, {combine}"
    for name in ("length_step", "parameters_step", "gap", "element"):
        yield "row jobs: steps", f"{name}, {'more' if fields[name] else '0'}"
    if fields["statistic"]:
        yield from ends("row jobs: steps", "level", np.array([fields["level"]]), functions.stages + 1)
        yield from ends("row jobs: steps", "row", np.arange(fields["n3"]) + fields["row"], functions.registers)
