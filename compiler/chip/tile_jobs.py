"""Jobs over several weight tiles: made of jobs that follow each other, and taken apart into what they are tile by tile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.jobs import Accumulate, Emit

from ..jobs import Jobs, with_single_tiles

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_SAME_LOADS = ("pod", "rows", "w_bank", "w_plane", "w_step")
_SAME_STREAMS = ("operation", "pod", "n0", "n1", "n2", "x_plane", "x_step0", "x_step1", "x_step2", "accumulator_base")
_SUMS = ("p_bank", "p_plane", "p_base", "p_step0", "p_step1", "p_step2")


def as_stored(loads: Jobs, streams: Jobs, config: ChipConfig) -> tuple[Jobs, Jobs]:
    """Loads and streams of a weight tile each, sorted by pod and start, as program stores hold them."""
    loads, streams = with_single_tiles(loads), with_single_tiles(streams)
    if not config.pod.tile_width:
        return loads, streams
    return joined_loads(loads, config), joined_streams(streams, config)


def joined_loads(loads: Jobs, config: ChipConfig) -> Jobs:
    """Loads, sorted by pod and start, with those in one job whose tiles lie one behind the other and start a period apart."""
    follows = _same(loads, _SAME_LOADS) & (_steps(loads["w_base"]) == _before(loads["rows"] * loads["w_step"]))
    first, tiles, period, _ = _joined(follows, loads["start"], (), config)
    return {name: values[first] for name, values in loads.items()} | {"tiles": tiles, "period": period}


def joined_streams(streams: Jobs, config: ChipConfig) -> Jobs:
    """Streams, sorted by pod and start, with those in one job that are the K steps of the same sums, and start a period apart.

    Their words lie in one bank, equally far apart, or in banks by turns.
    """
    accumulate, emit = streams["accumulate"], streams["emit"]
    in_pod = (accumulate == Accumulate.ADD) & (_before(accumulate) != Accumulate.BYPASS) & (_before(emit) == Emit.NONE)
    in_bank = (accumulate == Accumulate.BYPASS) & (_before(accumulate) == Accumulate.BYPASS)
    in_bank &= (emit == Emit.ACCUMULATE) & (_before(emit) != Emit.NONE) & _same(streams, _SUMS)
    swaps = (streams["swap"] == 1) & (_before(streams["swap"]) == 1)
    follows = _same(streams, _SAME_STREAMS) & swaps & (in_pod | in_bank)
    turn, step, reads_on = _turns(streams, follows, config)
    follows &= reads_on
    first, tiles, period, last = _joined(follows, streams["start"], (turn, step), config)
    joined = {name: values[first] for name, values in streams.items()} | {"tiles": tiles, "period": period}
    # How a job goes on is known by the second of its tiles.
    second = np.minimum(first + 1, last)
    joined |= {"x_turn": np.where(tiles > 1, turn[second], 0), "x_tile_step": np.where(tiles > 1, step[second], 0)}
    # Of sums in the pod, what the last tile emits.
    local = joined["accumulate"] != Accumulate.BYPASS
    return joined | {name: np.where(local, streams[name][last], joined[name]) for name in ("emit", *_SUMS)}


def single_loads(loads: Jobs) -> tuple[Jobs, Ints]:
    """Loads of one tile each, and the job that each is of."""
    single, job, tile = _single(loads)
    single["w_base"] = single["w_base"] + tile * single["rows"] * single["w_step"]
    return single, job


def single_streams(streams: Jobs) -> tuple[Jobs, Ints]:
    """Streams of one tile each, and the job that each is of."""
    single, job, tile = _single(streams)
    among = (1 << single["x_turn"]) - 1
    turned = (single["x_bank"] & among) + tile
    single["x_bank"] = single["x_bank"] & ~among | turned & among
    single["x_base"] = single["x_base"] + (turned >> single["x_turn"]) * single["x_tile_step"]
    local, further = single["accumulate"] != Accumulate.BYPASS, tile > 0
    single["accumulate"] = np.where(local & further, int(Accumulate.ADD), single["accumulate"])
    emit = np.where(~local & further & (single["emit"] == Emit.STORE), int(Emit.ACCUMULATE), single["emit"])
    single["emit"] = np.where(local & (tile < streams["tiles"][job] - 1), int(Emit.NONE), emit)
    single["x_turn"] = single["x_tile_step"] = np.zeros_like(job)
    return single, job


def _single(jobs: Jobs) -> tuple[Jobs, Ints, Ints]:
    """Jobs as often as they have tiles, with the start of each, the number of its job and of the tile in it."""
    tiles = jobs["tiles"]
    job = np.repeat(np.arange(len(tiles)), tiles)
    tile = np.arange(len(job)) - np.repeat(np.cumsum(tiles) - tiles, tiles)
    single = {name: values[job] for name, values in jobs.items()}
    single["start"] = single["start"] + tile * single["period"]
    return single | {"tiles": np.ones_like(job), "period": np.zeros_like(job)}, job, tile


def _before(values: Ints) -> Ints:
    """Those of the job before each, if there is one."""
    return np.concatenate([values[:1], values[:-1]])


def _steps(values: Ints) -> Ints:
    return values - _before(values)


def _same(jobs: Jobs, names: tuple[str, ...]) -> Bools:
    """Which jobs have what the one before has."""
    same = np.ones(len(jobs["start"]), bool)
    same[:1] = False
    for name in names:
        same &= _steps(jobs[name]) == 0
    return same


def _turns(streams: Jobs, follows: Bools, config: ChipConfig) -> tuple[Ints, Ints, Bools]:
    """How the X words of jobs lie behind those of the one before: `x_turn`, `x_tile_step`, and whether they do so at all.

    For a step to the next bank, several turns are possible: taken is that of the step back to the first bank of a block that the
    job has behind it, or else of the next one, or of the last one, for as long as banks go on turning.
    """
    bank, before, moved = streams["x_bank"], _before(streams["x_bank"]), _steps(streams["x_base"])
    stays, next_one = bank == before, (bank == before + 1) & (moved == 0)
    back = before - bank + 1
    turn_back = np.frexp(np.maximum(back, 1))[1].astype(np.int64) - 1
    wraps = (back > 1) & (back == 1 << turn_back) & (bank & back - 1 == 0)
    turning = follows & (next_one | wraps)
    wraps &= turning
    index, stretch = np.arange(len(bank)), np.cumsum(~turning)
    # Of steps back with nothing but turning jobs between, one that is unlike that before it in its job begins another job.
    which = np.flatnonzero(wraps)
    kept = np.ones(len(which), bool)
    same = np.diff(stretch[which]) == 0
    kept[1:] = ~same | (np.diff(turn_back[which]) == 0) & (np.diff(moved[which]) == 0)
    in_job = np.zeros(len(bank), bool)
    in_job[which] = _by_turns(kept)
    ahead = np.minimum.accumulate(np.where(wraps, index, len(bank))[::-1])[::-1]
    behind = np.maximum.accumulate(np.where(wraps, index, 0))
    follows_one, leads_to_one = (
        (at < len(bank)) & wraps[np.minimum(at, len(bank) - 1)] & (stretch[np.minimum(at, len(bank) - 1)] == stretch)
        for at in (behind, ahead)
    )
    model = np.where(follows_one & (in_job[behind] | ~leads_to_one), behind, np.minimum(ahead, len(bank) - 1))
    found = turning & (follows_one | leads_to_one)
    turn = np.where(found, turn_back[model], config.memory.banks.bit_length() - 1)
    step = np.where(found, moved[model], 0)
    # Who takes the next bank must not leave the block.
    inside = (bank & (1 << turn) - 1) != 0
    return np.where(stays, 0, turn), np.where(stays, moved, step), stays | wraps & in_job | next_one & inside


def _joined(follows: Bools, start: Ints, alike: tuple[Ints, ...], config: ChipConfig) -> tuple[Ints, Ints, Ints, Ints]:
    """First job, number of jobs, period and last job of those that become one.

    ``follows``: a job may be a further tile of the one before. Jobs in one go on alike: their starts are equally far apart, and
    they have the same in each of ``alike``.
    """
    pod, count = config.pod, len(start)
    period = _steps(start)
    follows = follows & (period < 1 << pod.count_width)
    as_before = np.concatenate([[False], follows[:-1]])[:count]
    for column in (period, *alike):
        as_before &= _steps(column) == 0
    # A job joins the one before if that is alone as yet, or goes on alike. Those that go on otherwise join by turns.
    index = np.arange(count)
    known = ~follows | as_before
    settled = np.maximum.accumulate(np.where(known, index, 0))
    joins = follows & (as_before[settled] & follows[settled] ^ ((index - settled) % 2 == 1))
    begins = np.flatnonzero(~joins)
    place = index - np.repeat(begins, np.diff(np.append(begins, count)))
    first = np.flatnonzero(place % ((1 << pod.tile_width) - 1) == 0)
    tiles = np.diff(np.append(first, count))
    second = np.minimum(first + 1, count - 1)
    return first, tiles, np.where(tiles > 1, period[second], 0), first + tiles - 1


def _by_turns(kept: Bools) -> Bools:
    """Which of things in a row join those before them: what is ``kept``, and what the one before did not join. The first is kept.

    >>> _by_turns(np.array([True, True, False, False, False, True])).tolist()
    [True, True, False, True, False, True]
    """
    index = np.arange(len(kept))
    settled = np.maximum.accumulate(np.where(kept, index, 0))
    return (index - settled) % 2 == 0
