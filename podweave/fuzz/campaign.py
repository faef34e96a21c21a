"""A campaign: cases of several kinds on several cores, for so many minutes; it goes on where it was."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, cast

from ..program import EXIT_CODES
from .case import COUNTED
from .files import Folder, version
from .worker import serve

Progress = Callable[[str], None]
CASE_SECONDS = 900.0
"""After which a case hangs, or the next try at making it small."""


@dataclass(eq=False)
class _Worker:
    """A process, what it does (kind and index), and since when nothing was heard of it."""

    process: Any
    pipe: Any
    task: tuple[str, int] | None = None
    heard: float = field(default_factory=time.monotonic)

    def kill(self) -> None:
        """With all that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.pipe.close()


@dataclass
class Campaign:
    """Random cases of ``kinds`` on ``jobs`` processes.

    Parameters
    ----------
    kinds : sequence of str
        Keys of `KINDS`; of those, the one that took least time so far is next.
    seed : int
        Case i of a kind is the same in every campaign of this seed.
    minutes : float
        After so many no case is begun.
    folder : Path
        Where results are; cases that are there are not run again.
    jobs : int
        Processes.
    cases : int, optional
        Of a kind, at most.
    shrink_seconds, case_seconds : float
        For making a failing case small, and after which one hangs.
    start : str
        How processes are started, as `multiprocessing` calls it.

    Errors
    ------
    WorkloadError
        The folder is of another campaign.
    """

    kinds: Sequence[str]
    seed: int
    minutes: float
    folder: Path
    jobs: int
    cases: int | None = None
    shrink_seconds: float = 300.0
    case_seconds: float = CASE_SECONDS
    start: str = "spawn"

    def run(self, progress: Progress) -> dict[str, Any]:
        """The report, over all cases that the folder has."""
        now = version()
        folder = Folder(self.folder, self.seed, now)
        rows = [row for row in folder.rows() if row["kind"] in self.kinds]
        began, context = time.monotonic(), cast(Any, multiprocessing.get_context(self.start))
        before, until = len(rows), began + 60 * self.minutes
        done = {(row["kind"], row["index"]) for row in rows}
        spent = {kind: sum(row["seconds"] for row in rows if row["kind"] == kind) for kind in self.kinds}
        workers: list[_Worker] = []

        def next_task() -> tuple[str, int] | None:
            """Of the kind that took least time."""
            if time.monotonic() > until:
                return None
            busy = [each.task for each in workers if each.task]
            for kind in sorted(self.kinds, key=lambda kind: spent[kind] + sum(each[0] == kind for each in busy)):
                index = next(i for i in range(len(done) + len(busy) + 1) if (kind, i) not in done and (kind, i) not in busy)
                if self.cases is None or index < self.cases:
                    return kind, index
            return None

        def work() -> None:
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, now, self.shrink_seconds))
            process.start()
            theirs.close()
            workers.append(_Worker(process, ours))

        def ended(worker: _Worker, row: dict[str, Any]) -> None:
            folder.add(row)
            rows.append(row)
            done.add((row["kind"], row["index"]))
            spent[row["kind"]] += row["seconds"]
            worker.task = None
            progress(_line(rows, began, before))

        def lost(worker: _Worker, why: str, sentence: str) -> None:
            """A process hangs, or is gone."""
            worker.kill()
            workers.remove(worker)
            assert worker.task
            kind, index = worker.task
            row = {"kind": kind, "index": index, "seconds": time.monotonic() - worker.heard, "verdict": "fail", "why": why}
            ended(worker, row | {"sentence": sentence, "counts": dict.fromkeys(COUNTED, 0), "decisions": 0})

        try:
            while True:
                for worker in workers:
                    if worker.task is None and (task := next_task()):
                        worker.task, worker.heard = task, time.monotonic()
                        worker.pipe.send((task[0], self.seed, task[1]))
                while len(workers) < self.jobs and next_task():
                    work()
                    worker = workers[-1]
                    worker.task = next_task()
                    assert worker.task
                    worker.pipe.send((worker.task[0], self.seed, worker.task[1]))
                busy = [worker for worker in workers if worker.task]
                if not busy:
                    break
                ready = wait([worker.pipe for worker in busy], timeout=1)
                for worker in busy:
                    if worker.pipe in ready:
                        worker.heard = time.monotonic()
                        try:
                            message = worker.pipe.recv()
                        except EOFError:
                            lost(worker, "crash", "the process that ran it ended")
                            continue
                        if "case" in message:
                            case = message["case"]
                            case.write(folder.case_file(case.kind, case.index))
                        else:
                            ended(worker, message["row"])
                    elif time.monotonic() - worker.heard > self.case_seconds:
                        lost(worker, "hang", f"nothing was heard for {self.case_seconds:.0f} s")
        finally:
            for worker in workers:
                worker.kill()
        return self._report(folder, rows, rows[before:], time.monotonic() - began, now)

    def _report(
        self, folder: Folder, rows: list[dict[str, Any]], new: list[dict[str, Any]], seconds: float, now: str
    ) -> dict[str, Any]:
        kinds = {}
        for kind in self.kinds:
            mine = [row for row in rows if row["kind"] == kind]
            found: dict[str, Any] = {"cases": len(mine)}
            found |= {verdict: sum(row["verdict"] == verdict for row in mine) for verdict in ("pass", "fail", "refused")}
            found["hangs"] = sum(row["why"] == "hang" for row in mine)
            found |= {name: sum(row["counts"][name] for row in mine) for name in COUNTED}
            found["seconds"] = sum(row["seconds"] for row in mine)
            found["jobs_per_s"] = (found["jobs"] + found["transfers"]) / found["seconds"] if mine else 0.0
            kinds[kind] = found
        failing = [row for row in rows if row["verdict"] == "fail"]
        verdict = "fail" if failing else "pass" if any(each["pass"] for each in kinds.values()) else "none"
        assert verdict in EXIT_CODES
        failures = [
            {
                **{name: row[name] for name in ("kind", "index", "why", "sentence", "decisions")},
                "decisions_left": row.get("decisions_left"),
                "file": str(file) if (file := folder.case_file(row["kind"], row["index"])).is_file() else None,
            }
            for row in failing
        ]
        return {
            "seed": self.seed,
            "minutes": self.minutes,
            "processes": self.jobs,
            "folder": str(folder.path),
            "version": now,
            "verdict": verdict,
            "new_cases": len(new),
            "seconds": seconds,
            "kinds": kinds,
            "failures": failures,
        }


def _line(rows: Sequence[dict[str, Any]], began: float, before: int) -> str:
    """What is told while it runs."""

    def parts() -> Iterator[str]:
        rate = (len(rows) - before) / (time.monotonic() - began) * 60
        yield f"{len(rows)} cases ({rate:.1f} a minute)"
        yield f"{sum(row['counts']['jobs'] + row['counts']['transfers'] for row in rows):,} jobs and transfers"
        failed = sum(row["verdict"] == "fail" for row in rows)
        yield f"{failed} failed" if failed else "none failed"

    return ", ".join(parts())
