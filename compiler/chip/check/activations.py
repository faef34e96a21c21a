"""Weights in W banks and activations in X banks: every word that is read is the right one, and there by then."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...jobs import Place, ProgramError
from ..epoch_program import EpochProgram, WeightTile
from .jobs import Ints, JobView, ProgramView, chunks, expand


def check_swaps(view: JobView) -> None:
    """Raises `ProgramError` for weights that are swapped in before they are complete, or overwritten before they are swapped in."""
    loads, streams = view.loads, view.streams
    swaps = np.flatnonzero(streams["swap"])
    pods = view.config.pods
    need, have = np.bincount(streams["pod"][swaps], minlength=pods), np.bincount(loads["pod"], minlength=pods)
    if (need != have).any():
        pod = int(np.argmax(need != have))
        raise ProgramError(f"pod {pod} has {have[pod]} weight loads for {need[pod]} swaps")
    first = np.concatenate([[True], streams["pod"][1:] != streams["pod"][:-1]])[: len(streams["pod"])]
    view.refuse(first & (streams["swap"] == 0), "stream", lambda _: "is the first of its pod, but swaps no weights in")
    swapped, complete = streams["start"][swaps], loads["start"] + loads["rows"]
    late = complete > swapped
    view.refuse(
        late,
        "load",
        lambda i: f"weights are complete in cycle {complete[i]}, but {view.name('stream', int(swaps[i]))} swaps them in",
    )
    same = loads["pod"][1:] == loads["pod"][:-1]
    early = np.concatenate([[False], same & (loads["start"][1:] < swapped[:-1])])
    view.refuse(early, "load", lambda i: f"overwrites weights before {view.name('stream', int(swaps[i - 1]))} swaps them in")


def check_weights(view: ProgramView) -> Ints:
    """The number of the weight tile that each stream multiplies by.

    Raises `ProgramError` for weights that are not there, or of another operation.
    """
    streams, tile = view.streams, _tiles(view)
    # Which tile each stream multiplies by: that of the last swap of its pod.
    tile_of_stream = tile[np.cumsum(streams["swap"]) - 1]
    operation = np.array([item.operation for item in view.program.weights], np.int64)[tile_of_stream]
    view.refuse(
        operation != view.operation_of_stream,
        "stream",
        lambda i: f"multiplies by weights of {view.program.operation(int(operation[i])).name}",
    )
    return tile_of_stream


def _tiles(view: ProgramView) -> Ints:
    """The weight tile that each load fetches."""
    program, memory = view.program, view.config.memory
    owner = np.full(memory.banks * memory.w_words, -1, np.int64)
    places = [item.place for item in program.weights]
    words = np.array([_tile_words(program, item) for item in program.weights], np.int64)
    _host_words(owner, places, words, memory.w_words, "W")
    job, word = expand(np.arange(len(view.loads["start"])), view.loads["rows"])
    address = view.w_walk.at(job, word)
    tile = owner[view.loads["w_bank"][job] * memory.w_words + address]
    found = tile[word == 0]
    wrong = (tile < 0) | (tile != found[job])
    if wrong.any():
        at = int(np.argmax(wrong))
        index = int(job[at])
        where = f"row {word[at]}, W bank {view.loads['w_bank'][index]} address {address[at]}"
        raise ProgramError(f"{view.name('load', index)}: {where}, is not of one weight tile that the host loads")
    return found


def _host_words(owner: Ints, places: Sequence[Place], words: Ints, depth: int, kind: str) -> None:
    """Write the number of each place into its words of ``owner``, which must not have been taken."""
    banks, bases = np.array([p.bank for p in places], np.int64), np.array([p.base for p in places], np.int64)
    outside = (bases < 0) | (bases + words > depth)
    if outside.any():
        at = int(np.argmax(outside))
        raise ProgramError(f"{kind} bank {banks[at]}: words {bases[at]} to {bases[at] + words[at] - 1} of the host are outside")
    item, word = expand(np.arange(len(places)), words)
    address = banks[item] * depth + bases[item] + word
    twice = (owner[address] >= 0) | (np.bincount(address, minlength=len(owner))[address] > 1)
    if twice.any():
        at = int(address[np.argmax(twice)])
        raise ProgramError(f"{kind} bank {at // depth} address {at % depth} is loaded twice by the host")
    owner[address] = item


def check_activations(view: ProgramView, tile_of_stream: Ints) -> None:
    """Raises `ProgramError` for a slot of an X word that is written where it must not be, or read before it is written.

    ``tile_of_stream``: what `check_weights` returns.
    """
    streams, posts, config, program = view.streams, view.posts, view.config, view.program
    depth, slots = config.memory.x_words, config.array.rows // config.post_lanes
    host = np.full(config.pods * depth, -1, np.int64)
    units = (*program.external_units, *program.resident)
    words = np.array([u.region.words for u in units], np.int64)
    _host_words(host, [u.place for u in units], words, depth, "X")
    by_host = host >= 0
    there = np.repeat(by_host[:, None], slots, axis=1)
    sender = np.full(config.pods * depth, -1, np.int64)
    arrival = np.full(config.pods * depth, -1, np.int64)
    writer = np.full((config.pods * depth, slots), -1, np.int64)
    to_bank = config.post_latency + config.network_latency
    sent = posts["n2"] * posts["n3"]
    for job, word in chunks(np.arange(len(posts["start"])), sent):
        at = posts["x_bank"][job] * depth + view.sent_walk.at(job, word)
        time = posts["start"][job] + word * view.period[job] + view.window[job] - 1 + to_bank
        slot, operation = posts["slot"][job], program.operation_of_post[job]
        number = job << 24 | word
        before = writer[at, slot] >= 0
        writer[at, slot] = number
        before |= writer[at, slot] != number
        strange = (sender[at] >= 0) & (sender[at] != operation)
        sender[at] = operation
        strange |= sender[at] != operation
        for wrong, what in (
            (by_host[at], "on top of what the host loaded"),
            (before, "which is written twice"),
            (strange, "which holds words of another operation"),
        ):
            if wrong.any():
                k = int(np.argmax(wrong))
                where = f"X bank {at[k] // depth} address {at[k] % depth} slot {slot[k]}"
                raise ProgramError(f"{view.name('post', int(job[k]))}: writes {where} in cycle {time[k]}, {what}")
        np.maximum.at(arrival, at, time)
        there[at, slot] = True
    known = np.concatenate([np.zeros((len(there), 1), np.int64), np.cumsum(there, axis=1)], axis=1)
    begin, end = _needed_slots(view, tile_of_stream)
    for job, word in chunks(np.arange(len(streams["start"])), view.streamed):
        at = streams["x_bank"][job] * depth + view.x_walk.at(job, word)
        time = streams["start"][job] + word + config.network_latency
        low, high = begin[job], end[job]
        missing = known[at, high] - known[at, low] != high - low
        late = arrival[at] >= time
        wrong = missing | late
        if wrong.any():
            k = int(np.argmax(wrong))
            where = f"X bank {at[k] // depth} address {at[k] % depth}"
            if missing[k]:
                slot_number = int(low[k]) + int(np.argmin(there[at[k], low[k] : high[k]]))
                what = f"slot {slot_number} of which is never written"
            else:
                what = f"but a word of it arrives in cycle {arrival[at[k]]}"
            raise ProgramError(f"{view.name('stream', int(job[k]))}: reads {where} in cycle {time[k]}, {what}")


def _needed_slots(view: ProgramView, tile_of_stream: Ints) -> tuple[Ints, Ints]:
    """Per stream, the slots [begin, end) of its X words in which there are lanes that its weights do not ignore."""
    lanes = view.config.post_lanes
    needed = np.array([_tile_lanes(view.program, item) for item in view.program.weights], np.int64).reshape(-1, 2)
    begin, end = needed[:, 0] // lanes, -(-needed[:, 1] // lanes)
    return begin[tile_of_stream], end[tile_of_stream]


def _tile_words(program: EpochProgram, item: WeightTile) -> int:
    return program.lowered[item.operation].operands[item.operand].units[item.step.unit].weight_rows


def _tile_lanes(program: EpochProgram, item: WeightTile) -> tuple[int, int]:
    """The lanes [begin, end) of activations that a weight tile does not ignore."""
    lowered = program.lowered[item.operation].operands[item.operand]
    unit = lowered.units[item.step.unit]
    if not (unit.is_computed or unit.is_stored):
        return 0, unit.lanes
    layer, outputs = lowered.layer, lowered.tiles[item.tile].outputs
    in_group, out_group = layer.channels // layer.groups, layer.outputs // layer.groups
    first, last = outputs[0] // out_group * in_group, (outputs[-1] // out_group + 1) * in_group
    first, last = max(int(first), int(unit.channel[0])), min(int(last), int(unit.channel[-1]) + 1)
    begin = unit.first_lane + first - int(unit.channel[0])
    return begin, begin + last - first
