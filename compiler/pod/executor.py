"""Program executor: runs a program's jobs in NumPy, so that a wrong program is found before RTL sees it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from podweave.spec.jobs import Accumulate, Emit

from ..jobs import Jobs
from .program import Epoch, Program


class ProgramError(AssertionError):
    """A program breaks a rule of the pod; the message names the job."""


def execute(program: Program, activations: NDArray[np.int8], weights: NDArray[np.int8]) -> NDArray[np.int32]:
    """The NHWC int32 result of a program, job by job: rows of shadow weights that a short load leaves are stale, banks and
    accumulators keep what was written, and every start time is held against the rules of the pod."""
    config = program.config
    memory, array = config.memory, config.array
    x_banks = np.full((memory.banks, memory.x_words, array.rows), 0x5A, np.int8)
    w_banks = np.full((memory.banks, memory.w_words, array.cols), 0x5A, np.int8)
    p_banks = np.full((memory.banks, memory.p_words, array.cols), 0x5A5A5A5A, np.int32)
    accumulators = np.full((max(1, config.pod.accumulator_rows), array.cols), 0x5A5A5A5A, np.int32)
    shadow = np.full((array.rows, array.cols), 0x5A, np.int8)
    result = program.empty_result()
    for number, epoch in enumerate(program.epochs):
        check_times(epoch, f"epoch {number}")
        for place, words in program.x_image(epoch, activations):
            x_banks[place.bank, place.base : place.base + len(words)] = words
        for place, words in program.w_image(epoch, weights):
            w_banks[place.bank, place.base : place.base + len(words)] = words
        loads, streams = epoch.loads, epoch.streams
        active, load = shadow.copy(), 0
        for job in range(len(streams["start"])):
            if streams["swap"][job]:
                rows = np.arange(loads["rows"][load])
                at = loads["w_base"][load] + rows * loads["w_step"][load]
                check_inside(at, memory.w_words, f"epoch {number}, load job {load}: W address")
                shadow[rows] = w_banks[loads["w_bank"][load], at]
                active, load = shadow.copy(), load + 1
            x, p = addresses(streams, job, "x"), addresses(streams, job, "p")
            where = f"epoch {number}, stream job {job}"
            check_inside(x, memory.x_words, f"{where}: X address")
            if streams["emit"][job] != Emit.NONE:
                check_inside(p, memory.p_words, f"{where}: P address")
            # Products of int8 over at most 256 rows are exact in float32.
            words = x_banks[streams["x_bank"][job], x].astype(np.float32)
            sums = (words @ active.astype(np.float32)).astype(np.int32)
            kind = streams["accumulate"][job]
            if kind != Accumulate.BYPASS:
                row = streams["accumulator_base"][job] + np.arange(len(sums))
                check_inside(row, config.pod.accumulator_rows, f"{where}: accumulator row")
                accumulators[row] = sums if kind == Accumulate.INIT else accumulators[row] + sums
                sums = accumulators[row]
            bank = p_banks[streams["p_bank"][job]]
            if streams["emit"][job] == Emit.STORE:
                bank[p] = sums
            elif streams["emit"][job] == Emit.ACCUMULATE:
                bank[p] += sums
        for readout in epoch.readouts:
            count = int(np.prod(readout.shape))
            place = readout.place
            program.store_result(result, readout, p_banks[place.bank, place.base : place.base + count])
    return result


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


def check_times(epoch: Epoch, where: str) -> None:
    """Raises `ProgramError` unless no two jobs overlap and weights are complete when, and kept until, they are swapped in."""
    for name, jobs, length in (
        ("load", epoch.loads, epoch.loads["rows"]),
        ("stream", epoch.streams, epoch.words_streamed),
    ):
        overlap = np.flatnonzero(jobs["start"][1:] < jobs["start"][:-1] + length[:-1])
        if len(overlap):
            raise ProgramError(f"{where}: {name} job {overlap[0] + 1} starts before the one before it has ended")
    swaps = epoch.streams["start"][epoch.streams["swap"] == 1]
    starts, done = epoch.loads["start"], epoch.loads["start"] + epoch.loads["rows"]
    if len(swaps) != len(starts):
        raise ProgramError(f"{where}: {len(starts)} weight loads for {len(swaps)} swaps")
    if (swaps < done).any():
        raise ProgramError(f"{where}: weights of load {np.argmax(swaps < done)} are swapped in before they are complete")
    if (starts[1:] < swaps[:-1]).any():
        late = np.argmax(starts[1:] < swaps[:-1])
        raise ProgramError(f"{where}: load {late + 1} overwrites weights before they are swapped in")
