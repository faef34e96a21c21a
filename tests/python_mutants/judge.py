"""What becomes of a mutant: tests near it, then those that name its module, each level in a process that has only the mutant."""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import os
import re
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from tests.python_mutants.mutant import ROOT, Mutant
from tests.test_architecture import import_graph, module_name

TEST_SECONDS = 60
"""CPU time after which a test hangs; none of the fast ones takes a sixth of it."""
LEVEL_SECONDS = 25.0, 300.0
"""CPU time after which no further test of a level begins: at first, and if that decides nothing."""
MOST_BYTES = 8 << 30
"""Of memory: a mutant that asks for more is killed."""


def preload() -> None:
    """What every test imports and no mutant is in: processes that are forked have it."""
    for name in ("numpy", "onnx", "onnxruntime", "amaranth.hdl", "cocotb_tools.config", "rich", "typer"):
        importlib.import_module(name)


def levels(mutant: Mutant) -> Iterator[tuple[str, list[str]]]:
    """(name, files or folders of tests), nearest first."""
    place = Path(mutant.path)
    folder, own = ROOT / "tests" / place.parent, ROOT / "tests" / place.parent / f"test_{place.stem}.py"
    if own.is_file():
        yield "own file", [str(own)]
    seen = {own}
    while folder != ROOT / "tests":
        found = [each for each in sorted(folder.glob("test_*.py")) if each not in seen] if folder.is_dir() else []
        if found:
            seen.update(found)
            yield "own folder", list(map(str, found))
            break
        folder = folder.parent
    package = mutant.module.rpartition(".")[0]
    users = "|".join(re.escape(module_name(path)) for path, found in _graph().items() if place in (used for _, used in found))
    named = {"tests that name it": f"{mutant.module} import", "tests that name its package": f"from {package}[. ]"}
    for level, name in (named | ({"tests of what imports it": f"({users}) import"} if users else {})).items():
        files = [file for file in sorted((ROOT / "tests").rglob("test_*.py")) if file not in seen]
        found = [file for file in files if re.search(name, file.read_text(encoding="utf-8"))]
        if found:
            seen.update(found)
            yield level, list(map(str, found))


@functools.cache
def _graph() -> dict[Path, list[tuple[int, Path]]]:
    return import_graph(ROOT)


def judge(mutant: Mutant, seconds: float) -> dict[str, Any]:
    """A row: ``verdict`` killed, hung, survived or stopped (a level took more than ``seconds``), and ``by``: the test."""
    row: dict[str, Any] = {"name": mutant.name, "operator": mutant.operator, "room": mutant.room, "verdict": "survived", "by": ""}
    for level, files in levels(mutant):
        code, failed = run_tests(files, mutant, seconds)
        if code == BROKEN:
            raise RuntimeError(f"{mutant.name}: {failed}")
        if failed:
            # What cannot be collected is a file, and whole files may take too long.
            code, again = run_tests([failed], None, seconds)
            if again or code not in (0, STOPPED):
                raise RuntimeError(f"{failed} fails without a mutant")
            return row | {"verdict": "killed", "by": failed, "level": level}
        if code == -signal.SIGXCPU:
            return row | {"verdict": "hung", "by": level, "level": level}
        if code == STOPPED:
            row |= {"verdict": "stopped", "seconds": seconds}
        elif code not in (0, 5):
            raise RuntimeError(f"{mutant.name}: pytest ended with {code}")
    return row


STOPPED, BROKEN = 77, 70
"""Exit codes that pytest has not."""


def run_tests(files: Sequence[str], mutant: Mutant | None, seconds: float) -> tuple[int, str]:
    """(exit code of pytest, or minus the signal; the first test that failed) in a process of its own."""
    ours, theirs = os.pipe()
    process = os.fork()
    if not process:
        os.close(ours)
        try:
            _in_child(files, mutant, seconds, theirs)
        except BaseException as error:
            os.write(theirs, f"{type(error).__name__}: {error}".encode())
        os._exit(BROKEN)
    os.close(theirs)
    with os.fdopen(ours, encoding="utf-8") as told:
        failed = told.read().strip()
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), failed


def _in_child(files: Sequence[str], mutant: Mutant | None, seconds: float, told: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    # Not of addresses: Yosys reserves 4 GiB of them, one for each of its threads.
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    most = int(seconds) + 2 * TEST_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 5))
    if mutant:
        sys.meta_path.insert(0, _Finder(mutant))
    code = pytest.main(
        ["-x", "-q", "-m", "not campaign", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(ROOT), *files],
        plugins=[_Watch(told, seconds)],
    )
    os._exit(code)


class _Watch:
    """Tells the first failure, and ends what takes too long."""

    def __init__(self, told: int, seconds: float):
        self.told, self.seconds = told, seconds

    def _tell(self, name: str) -> None:
        os.write(self.told, f"{name}\n".encode())
        os._exit(1)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        def hangs(*_: object) -> None:
            self._tell(item.nodeid)

        signal.signal(signal.SIGVTALRM, hangs)
        signal.setitimer(signal.ITIMER_VIRTUAL, TEST_SECONDS)
        result = yield
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        if sum(each.ru_utime + each.ru_stime for each in used) > self.seconds:
            os._exit(STOPPED)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._tell(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._tell(report.nodeid)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, text: str):
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    """Finds the changed module in place of the one in its file, which nobody touches."""

    def __init__(self, mutant: Mutant):
        self.mutant = mutant

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname != self.mutant.module:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(fullname, path, target) if finder is not self else None
            if spec and spec.origin:
                spec.loader = _Loader(fullname, spec.origin, self.mutant.source)
                return spec
        return None
