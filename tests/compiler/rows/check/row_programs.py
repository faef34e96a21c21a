"""Legal programs of rows, and faults to plant in them."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from podweave.compiler.jobs import ProgramError
from podweave.compiler.rows.check.program import check_rows
from podweave.compiler.rows.front import compile_rows
from podweave.compiler.rows.program import RowProgram, Words
from podweave.runs.jobs import chip_jobs
from podweave.spec.load_port import HostSelect
from tests.podweave.runs.row_jobs import small_chip

Programs = tuple[RowProgram, ...]
LAYER = "llama_16_2_1_24,rows=3,context=9"
TABLES = 4
KINDS = ("loads", "streams", "posts")


@functools.cache
def programs(name: str = LAYER) -> Programs:
    """Epochs as large as can be."""
    (job,) = chip_jobs(name, 3)
    return compile_rows(job.graph, small_chip(), job.constants, share=1.0)


def with_epoch(legal: Programs, epoch: int, **parts: object) -> Programs:
    return (*legal[:epoch], dataclasses.replace(legal[epoch], **parts), *legal[epoch + 1 :])  # type: ignore[arg-type]


def changed(legal: Programs, epoch: int, kind: str, job: Sequence[int], **values: int | np.ndarray) -> Programs:
    """The same with other fields in a job, or in several."""
    jobs = {name: column.copy() for name, column in getattr(legal[epoch], kind).items()}
    for name, value in values.items():
        jobs[name][list(job)] = value
    return with_epoch(legal, epoch, **{kind: jobs})


def found(legal: Programs, kind: str, operation: str | None, n: int, nodes: Sequence[int]) -> tuple[int, list[int]]:
    """The epoch and the numbers of the ``n``-th job that nodes have of an operation, or of any: they do the same at a time."""
    unit = "bank" if kind == "posts" else "pod"
    index = None if operation is None else [each.name for each in legal[0].graph.operations].index(operation)
    places = []
    for node in nodes:
        here = [
            (epoch, int(job))
            for epoch, program in enumerate(legal)
            for job in np.flatnonzero(getattr(program, kind)[unit] == node)
            if index is None or getattr(program, kind)["operation"][job] == index
        ]
        places.append(here[n])
    (epoch,) = {epoch for epoch, _ in places}
    return epoch, [job for _, job in places]


Fault = Callable[[Programs], Iterator[Programs]]


def at(kind: str, operation: str | None, n: int, *nodes: int, **fields: int | Sequence[int]) -> Fault:
    """Other fields in a job of nodes; of a sequence, each by which the field is larger, one after the other."""

    def planted(legal: Programs) -> Iterator[Programs]:
        epoch, jobs = found(legal, kind, operation, n, nodes)
        fixed = {name: value for name, value in fields.items() if isinstance(value, int)}
        by = {name: value for name, value in fields.items() if not isinstance(value, int)}
        for steps in itertools.product(*by.values()):
            moved = {name: getattr(legal[epoch], kind)[name][jobs] + step for name, step in zip(by, steps, strict=True)}
            yield changed(legal, epoch, kind, jobs, **fixed, **moved)

    return planted


def again(operation: str, n: int, starts: Sequence[int], base: int, **fields: int) -> Fault:
    """A job of node 0 once more, behind it, so much later; its results go ``base`` words further on."""

    def planted(legal: Programs) -> Iterator[Programs]:
        epoch, (job,) = found(legal, "posts", operation, n, [0])
        posts = legal[epoch].posts
        jobs = {name: np.insert(column, job + 1, column[job]) for name, column in posts.items()}
        for start in starts:
            moved = {"start": posts["start"][job] + start, "x_base": posts["x_base"][job] + base}
            yield changed(with_epoch(legal, epoch, posts=jobs), epoch, "posts", [job + 1], **moved, **fields)

    return planted


def without_words(select: HostSelect) -> Fault:
    """What is loaded before all epochs, but for a kind of words."""

    def planted(legal: Programs) -> Iterator[Programs]:
        for epoch, program in enumerate(legal):
            legal = with_epoch(legal, epoch, words=tuple(words for words in program.words if words.select is not select))
        yield legal

    return planted


def more_weights(base: int, *, alone: bool = False) -> Fault:
    """Four words more in the first W bank, in the first epoch, or in one more that has nothing else."""

    def planted(legal: Programs) -> Iterator[Programs]:
        words = Words(HostSelect.W, 0, base, np.zeros((4, 4), np.uint8))
        if not alone:
            yield with_epoch(legal, 0, words=(*legal[0].words, words))
            return
        nothing = {kind: {name: values[:0] for name, values in getattr(legal[-1], kind).items()} for kind in KINDS}
        yield (*legal, dataclasses.replace(legal[-1], words=(words,), outputs=(), appended=(), **nothing))

    return planted


def either(*faults: Fault) -> Fault:
    """One or the other."""
    return lambda legal: itertools.chain.from_iterable(fault(legal) for fault in faults)


def then(*faults: Fault) -> Fault:
    """One after the other, in the same programs."""

    def planted(legal: Programs) -> Iterator[Programs]:
        if not faults:
            yield legal
            return
        for wrong in faults[0](legal):
            yield from then(*faults[1:])(wrong)

    return planted


def message(checked: Programs, tables: int = TABLES) -> str:
    """What is wrong with programs, or nothing."""
    try:
        check_rows(checked, tables)
    except ProgramError as error:
        return str(error)
    return ""


def refused(fault: Fault, sentence: str, tables: int = TABLES, name: str = LAYER) -> None:
    """The sentence is said of one of the programs that a fault makes of the legal ones."""
    said = set()
    for wrong in fault(programs(name)):
        found_out = message(wrong, tables)
        if re.search(sentence, found_out):
            return
        said.add(re.sub(r"\d+", "#", found_out))
    raise AssertionError("\n".join(sorted(said)))
