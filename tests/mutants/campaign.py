"""Tests of blocks, once on the blocks as they are and once on each mutant of each: which mutants they see."""

from __future__ import annotations

import functools
import gc
import os
import pickle
import re
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from podweave.synth.mutants import CHOICE, Mutants, mutants_of
from podweave.tb.build.instrument import Instrument, instrumented
from tests.mutants.starts import Starts

KILLED, HUNG, SURVIVED = "killed", "hung", "survived"
# A mutant may take this many times as long as the module as it is, and so many seconds more, on a machine that is busy.
_TIMES, _MORE_S = 10, 120
Progress = Callable[[str], None]


class CampaignError(RuntimeError):
    """There is nothing to judge: no test simulates a block, or one fails without a mutant."""


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant: ``state``, the test that saw it, and the first line of what that said."""

    state: str
    test: str = ""
    said: str = ""


@dataclass
class Campaign:
    """A plugin of pytest that runs the collected tests on mutants, each in a process of its own, which is forked when all is built.

    Parameters
    ----------
    kinds : mapping of str to str
        Kinds of blocks to judge, and for each what matches names of its modules, whole. Of each, the first module that the tests
        build is changed, wherever they build it with the same text.
    count, seed : int
        As of `mutants_of`, for each kind.
    processes : int
        Mutants at a time.
    progress : callable
        Told what is being done.

    Members
    -------
    mutants : dict of str to Mutants
        By kind.
    tests : list of str
        Those that simulate it.
    outcomes : dict of int to Outcome
        Of each mutant, by its number.
    failure : str
        Why there are none; else empty.
    """

    kinds: Mapping[str, str]
    count: int
    seed: int
    processes: int
    progress: Progress
    mutants: dict[str, Mutants] = field(default_factory=dict)
    tests: list[str] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    failure: str = ""
    _texts: dict[str, str] = field(default_factory=dict)
    _chosen: int = 0
    _starts: Starts = field(default_factory=Starts)
    _simulated: bool = False
    _callers: set[CodeType] = field(default_factory=set)
    _kills: dict[str, int] = field(default_factory=dict)

    def instrument(self) -> Instrument:
        """What puts the mutants into builds."""
        # In a mutant two conditions may hold that exclude each other: tests are to find what comes of it.
        return Instrument(change=self._change, flags=["--no-assert"], start=self._start)

    def _change(self, name: str, modules: Mapping[str, str]) -> str:
        text = modules[name]
        # A test that plants a fault of its own keeps it.
        if self._texts.setdefault(name, text) != text:
            return text
        for kind, pattern in self.kinds.items():
            if kind not in self.mutants and re.fullmatch(pattern, name):
                self.progress(f"making mutants of {name}")
                first = 1 + sum(len(each.mutations) for each in self.mutants.values())
                self.mutants[kind] = mutants_of(name, text, others=modules, count=self.count, seed=self.seed, first=first)
            if kind in self.mutants and self.mutants[kind].module == name:
                return self.mutants[kind].verilog
        return text

    def _start(self, command: list[str], *, changed: bool, cwd: Path, **options: Any) -> Any:
        if not changed:
            return subprocess.Popen(command, cwd=cwd, **options)
        self._simulated = True
        frame: Any = sys._getframe()
        while frame is not None:
            self._callers.add(frame.f_code)
            frame = frame.f_back
        (cwd / CHOICE).write_text(str(self._chosen), encoding="utf-8")
        return self._starts(command, cwd=cwd, **options)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        try:
            with instrumented(self.instrument()):
                self._run(session.items)
        except CampaignError as error:
            self.failure = str(error)
        finally:
            self._starts.close()
        return True

    def _run(self, items: Sequence[pytest.Item]) -> None:
        seconds, reached = 0.0, []
        for done, item in enumerate(items, 1):
            self.progress(f"as it is, test {done} of {len(items)}")
            self._simulated, began = False, time.perf_counter()
            failed = _failure(item)
            if failed:
                raise CampaignError(f"{item.nodeid} fails without a mutant: {failed}")
            if self._simulated:
                reached.append(item)
                seconds += time.perf_counter() - began
        missing = [kind for kind in self.kinds if kind not in self.mutants]
        if not reached or missing:
            raise CampaignError(f"no test of {len(items)} simulates a block of kind {missing[0] if missing else '(any)'}")
        self.tests = [item.nodeid for item in reached]
        # Results of simulations that tests share are results of the module as it is.
        stale = [each for each in gc.get_objects() if _is_cache(each) and each.__wrapped__.__code__ in self._callers]
        for each in stale:
            each.cache_clear()
        numbers = [mutation.number for each in self.mutants.values() for mutation in each.mutations]
        self._judge(numbers, reached, _MORE_S + _TIMES * seconds)

    def _judge(self, numbers: Sequence[int], items: list[pytest.Item], limit_s: float) -> None:
        left, again = deque(numbers), set[int]()
        under_way: dict[int, tuple[int, int, float]] = {}
        while True:
            while left and len(under_way) < self.processes:
                number = left.popleft()
                items.sort(key=lambda item: -self._kills.get(item.nodeid, 0))
                pid, reader = self._forked(number, items)
                under_way[reader] = (number, pid, time.monotonic() + limit_s)
            if not under_way:
                return
            ready, *_ = select.select(list(under_way), [], [], 1.0)
            for reader, (number, pid, until) in list(under_way.items()):
                if reader in ready:
                    outcome = _received(reader)
                elif time.monotonic() > until:
                    # The simulator ends with the process that started it.
                    os.kill(pid, signal.SIGKILL)
                    outcome = Outcome(HUNG, said=f"not done after {limit_s:.0f} s")
                    if number not in again:
                        # What hung may have been the machine.
                        again.add(number)
                        left.append(number)
                else:
                    continue
                os.close(reader)
                os.waitpid(pid, 0)
                del under_way[reader]
                if number in left:
                    continue
                self.outcomes[number] = outcome
                self._kills[outcome.test] = self._kills.get(outcome.test, 0) + 1
                survived = sum(each.state == SURVIVED for each in self.outcomes.values())
                self.progress(f"{len(self.outcomes)} of {len(numbers)} mutants, {survived} survived")

    def _forked(self, number: int, items: Sequence[pytest.Item]) -> tuple[int, int]:
        """A process that runs tests on a mutant until one fails; where to read the `Outcome`."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writer)
            return pid, reader
        code = 1
        try:
            os.close(reader)
            self._chosen = number
            outcome = Outcome(SURVIVED)
            for item in items:
                said = _failure(item)
                if said:
                    outcome = Outcome(KILLED, item.nodeid, said)
                    break
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(outcome, pipe)
            code = 0
        finally:
            os._exit(code)


def _received(reader: int) -> Outcome:
    with os.fdopen(os.dup(reader), "rb") as pipe:
        try:
            found: Outcome = pickle.load(pipe)
        except EOFError as error:
            raise CampaignError("a process that ran tests on a mutant has ended without a result") from error
    return found


def _is_cache(value: object) -> bool:
    return isinstance(value, functools._lru_cache_wrapper) and hasattr(value.__wrapped__, "__code__")


def _failure(item: pytest.Item) -> str:
    """The first line of what a test says if it fails, or why it cannot be run; else empty."""
    for report in runtestprotocol(item, log=False, nextitem=None):
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            return str(crash.message if crash else report.longrepr).split("\n", 1)[0][:200] or "failed"
    return ""
