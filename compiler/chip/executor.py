"""Runs a chip program in NumPy, job by job: a wrong program is found before RTL sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Constants, Parameters
from podweave.spec.config import ChipConfig
from podweave.spec.jobs import Accumulate, Emit, Reduce

from ..jobs import Jobs, ProgramError
from .bank_image import outputs, parameter_image, w_image, x_image
from .bank_words import zero_word
from .epoch_program import EpochProgram
from .tile_jobs import single_loads, single_streams

_GARBAGE = 0x5A


class Machine:
    """Banks of a chip while programs are executed; what was never written is garbage that shows."""

    def __init__(self, config: ChipConfig):
        memory = config.memory
        self.config = config
        rows, cols = config.array.rows, config.array.cols
        self.x = np.full((memory.banks, memory.x_words, rows), _GARBAGE, np.int8)
        self.w = np.full((memory.banks, memory.w_words, cols), _GARBAGE, np.int8)
        self.p = np.full((memory.banks, memory.p_words, cols), 0x5A5A5A5A, np.int32)
        self.p[:, zero_word(config)] = 0
        self.sets = np.zeros((config.pods, config.post.parameter_sets, 4, cols), np.int64)
        self.accumulators = np.full((config.pods, max(1, config.pod.accumulator_rows), cols), 0x5A5A5A5A, np.int32)
        self.shadow = np.full((config.pods, rows, cols), _GARBAGE, np.int8)
        self.active = self.shadow.copy()
        self.tables: dict[int, NDArray[np.int8]] = {}

    def load(self, program: EpochProgram, inputs: Mapping[str, NDArray[np.int8]], parameters: Mapping[str, Parameters]) -> None:
        """What an epoch needs beside what the one before left in the P banks."""
        before, self.x = self.x, np.full_like(self.x, _GARBAGE)
        for item in program.resident:
            there = slice(item.place.base, item.place.base + item.region.words)
            self.x[item.place.bank, there] = before[item.place.bank, there]
        for place, words in x_image(program, inputs):
            self.x[place.bank, place.base : place.base + len(words)] = words
        for place, words in w_image(program, parameters):
            self.w[place.bank, place.base : place.base + len(words)] = words
        for bank, index, lanes in parameter_image(program, parameters):
            self.sets[bank, index] = lanes

    def run(self, program: EpochProgram, tables: Mapping[int, NDArray[np.int8]] | Sequence[NDArray[np.int8]]) -> None:
        """All jobs, tile by tile: of one operation after the other what its pods stream, then what is sent of it, each in the order
        of time. ``tables``: by slot. Jobs read behind words as others write them; that no word is read too early is for
        `check_chip`."""
        self.tables = dict(tables) if isinstance(tables, Mapping) else dict(enumerate(tables))
        self.posts = program.posts
        (self.loads, _), (self.streams, job) = single_loads(program.loads), single_streams(program.streams)
        loads, streams, posts = self.loads, self.streams, self.posts
        load_of = _load_of_swap(loads, streams)
        turns = self._turns(program, job)
        times = np.concatenate([streams["start"], posts["start"]])
        kinds = np.concatenate([np.zeros(len(streams["start"]), int), np.ones(len(posts["start"]), int)])
        index = np.concatenate([np.arange(len(streams["start"])), np.arange(len(posts["start"]))])
        for at in np.lexsort((index, times, kinds, turns)):
            if kinds[at]:
                self._post(int(index[at]))
            else:
                self._stream(int(index[at]), int(load_of[index[at]]))

    def _turns(self, program: EpochProgram, job: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of streams, of which each is one of a ``job``, and post-processor jobs: which operation of the epoch they are of."""
        # What earlier epochs computed comes first.
        turn = np.full(len(program.graph.operations), -1, np.int64)
        turn[list(program.operations)] = np.arange(len(program.operations))
        return turn[np.concatenate([program.operation_of_stream[job], program.operation_of_post])]

    def _stream(self, job: int, load: int) -> None:
        streams, loads = self.streams, self.loads
        memory, where = self.config.memory, f"stream job {job}"
        pod = int(streams["pod"][job])
        if load >= 0:
            rows = np.arange(loads["rows"][load])
            at = loads["w_base"][load] + rows * loads["w_step"][load]
            check_inside(at, memory.w_words, f"load job {load}: W address")
            self.shadow[pod, rows] = self.w[loads["w_bank"][load], at]
            self.active[pod] = self.shadow[pod]
        x, p = addresses(streams, job, "x"), addresses(streams, job, "p")
        check_inside(x, memory.x_words, f"{where}: X address")
        words = self.x[streams["x_bank"][job], x].astype(np.float32)
        # Products of int8 over at most 256 rows are exact in float32.
        sums = (words @ self.active[pod].astype(np.float32)).astype(np.int32)
        code = streams["accumulate"][job]
        if code != Accumulate.BYPASS:
            row = streams["accumulator_base"][job] + np.arange(len(sums))
            check_inside(row, self.config.pod.accumulator_rows, f"{where}: accumulator row")
            self.accumulators[pod, row] = sums if code == Accumulate.INIT else self.accumulators[pod, row] + sums
            sums = self.accumulators[pod, row]
        if streams["emit"][job] != Emit.NONE:
            check_inside(p, memory.p_words, f"{where}: P address")
            bank = self.p[streams["p_bank"][job]]
            bank[p] = sums if streams["emit"][job] == Emit.STORE else bank[p] + sums

    def _post(self, job: int) -> None:
        posts = self.posts
        memory, where, bank = self.config.memory, f"post-processor job {job}", int(posts["bank"][job])
        counts = [int(posts[f"n{i}"][job]) for i in range(4)]
        p = _grid(counts, [int(posts[f"p_step{i}"][job]) for i in range(4)]) + posts["p_base"][job]
        x = _grid(counts[2:], [int(posts[f"x_step{i}"][job]) for i in (2, 3)]) + posts["x_base"][job]
        check_inside(p, memory.p_words, f"{where}: P address")
        check_inside(x, memory.x_words, f"{where}: X address")
        lanes = self.config.post_lanes
        part = slice(int(posts["slice"][job]) * lanes, (int(posts["slice"][job]) + 1) * lanes)
        words = self.p[bank, p][:, part].astype(np.int64).reshape(counts[3] * counts[2], counts[1] * counts[0], lanes)
        code = posts["reduce"][job]
        reduced = words.max(axis=1) if code == Reduce.MAX else words.sum(axis=1) if code == Reduce.SUM else words.prod(axis=1)
        bias, multiplier, shift, zero_point = self.sets[bank, posts["parameters"][job]][:, part]
        # Exact in Python integers where 64 bits might not do.
        product = (reduced + bias).astype(object) * multiplier.astype(object)
        half = np.array([(1 << int(s)) >> 1 for s in shift], object)
        whole = np.array([1 << int(s) for s in shift], object)
        magnitude, rest = (abs(product) + half) // whole, (abs(product) + half) % whole
        if self.config.rounding == "half_even":
            magnitude = np.where((rest == 0) & (whole > 1) & (magnitude % 2 == 1), magnitude - 1, magnitude)
        value = np.clip(np.where(product < 0, -magnitude, magnitude) + zero_point, -128, 127).astype(np.int8)
        if posts["activate"][job]:
            value = self.tables[int(posts["table"][job])][value.view(np.uint8)]
        slot = int(posts["slot"][job]) * lanes
        self.x[posts["x_bank"][job], x, slot : slot + lanes] = value


def execute_chip(
    programs: EpochProgram | Sequence[EpochProgram],
    inputs: Mapping[str, NDArray[np.int8]],
    constants: Constants,
) -> tuple[dict[str, NDArray[np.int8]], Machine]:
    """The int8 outputs of a program, or of programs that are the epochs of one graph, and the machine that they ran on."""
    epochs = [programs] if isinstance(programs, EpochProgram) else programs
    machine = Machine(epochs[0].config)
    found: dict[str, NDArray[np.int8]] = {}
    for program in epochs:
        machine.load(program, inputs, constants)
        machine.run(program, {slot: constants.tables[number] for slot, number in program.tables.items()})
        found |= outputs(program, machine.x)
    return found, machine


def _load_of_swap(loads: Jobs, streams: Jobs) -> NDArray[np.int64]:
    """For each stream job, the load whose weights it swaps in, or -1: the n-th swap of a pod takes its n-th load."""
    result = np.full(len(streams["start"]), -1, np.int64)
    swaps = np.flatnonzero(streams["swap"])
    if len(swaps) != len(loads["start"]) or (streams["pod"][swaps] != loads["pod"]).any():
        raise ProgramError(f"{len(loads['start'])} weight loads for {len(swaps)} swaps, or not of the same pods")
    result[swaps] = np.arange(len(swaps))
    return result


def _grid(counts: list[int], steps: list[int]) -> NDArray[np.int64]:
    """Addresses of nested loops, loop 0 innermost, from what is added when each advances."""
    grid, back = np.zeros(1, np.int64), 0
    for count, step in zip(counts, steps, strict=True):
        stride = step + back if count > 1 else 0
        grid = (np.arange(count)[:, None] * stride + grid).ravel()
        back += (count - 1) * stride
    return grid


def addresses(jobs: Jobs, job: int, memory: str) -> NDArray[np.int64]:
    n0, n1, n2 = (int(jobs[f"n{i}"][job]) for i in range(3))
    inner, middle, outer = (int(jobs[f"{memory}_step{i}"][job]) for i in range(3))
    # What an outer loop adds, from word to word of its own.
    middle_stride = middle + (n0 - 1) * inner
    outer_stride = outer + (n1 - 1) * middle_stride + (n0 - 1) * inner
    grid = np.arange(n2)[:, None, None] * outer_stride + np.arange(n1)[:, None] * middle_stride + np.arange(n0) * inner
    return jobs[f"{memory}_base"][job] + grid.ravel()


def check_inside(addresses: NDArray[np.int64], words: int, what: str) -> None:
    # NumPy would wrap a negative address around.
    outside = addresses[(addresses < 0) | (addresses >= words)]
    if len(outside):
        raise ProgramError(f"{what} {outside[0]} is outside of 0 to {words - 1}")
