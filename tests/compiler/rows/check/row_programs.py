"""Legal programs of rows, and faults to plant in them."""

from __future__ import annotations

import dataclasses
import functools
import re

import numpy as np
import pytest

from podweave.compiler.pod.executor import ProgramError
from podweave.compiler.rows.check.program import check_rows
from podweave.compiler.rows.front import compile_rows
from podweave.compiler.rows.program import RowProgram, Words
from podweave.runs.jobs import chip_jobs
from podweave.spec.load_port import HostSelect
from tests.podweave.runs.row_jobs import small_chip

Programs = tuple[RowProgram, ...]
LAYER = "llama_16_2_1_24,rows=3,context=9"
TABLES = 4


@functools.cache
def programs(name: str = LAYER) -> Programs:
    (job,) = chip_jobs(name, 3)
    return compile_rows(job.graph, small_chip(), job.constants)


def with_epoch(legal: Programs, epoch: int, **parts: object) -> Programs:
    return (*legal[:epoch], dataclasses.replace(legal[epoch], **parts), *legal[epoch + 1 :])  # type: ignore[arg-type]


def changed(legal: Programs, epoch: int, kind: str, job: int | list[int], **values: int) -> Programs:
    """The same with other fields in a job, or in several."""
    jobs = {name: column.copy() for name, column in getattr(legal[epoch], kind).items()}
    for name, value in values.items():
        jobs[name][job] = value
    return with_epoch(legal, epoch, **{kind: jobs})


def without_words(legal: Programs, epoch: int, select: HostSelect) -> Programs:
    return with_epoch(legal, epoch, words=tuple(words for words in legal[epoch].words if words.select is not select))


def more_words(legal: Programs, epoch: int, select: HostSelect, node: int, base: int, content: np.ndarray) -> Programs:
    return with_epoch(legal, epoch, words=(*legal[epoch].words, Words(select, node, base, content)))


def repeated(legal: Programs, epoch: int, kind: str, job: int, **values: int) -> Programs:
    """The same with a job once more, right behind it, with other fields."""
    jobs = {name: np.insert(column, job + 1, column[job]) for name, column in getattr(legal[epoch], kind).items()}
    return changed(with_epoch(legal, epoch, **{kind: jobs}), epoch, kind, job + 1, **values)


def message(checked: Programs, tables: int = TABLES) -> str:
    """What is wrong with programs, or nothing."""
    try:
        check_rows(checked, tables)
    except ProgramError as error:
        return str(error)
    return ""


def refused(wrong: Programs, sentence: str, tables: int = TABLES) -> None:
    with pytest.raises(ProgramError) as caught:
        check_rows(wrong, tables)
    assert re.search(sentence, str(caught.value)), str(caught.value)
