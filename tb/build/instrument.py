"""What changes every simulator that is built, and every start of one, while tests are judged: their own code stays as it is."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from .blocks import MODULE, modules_of


def _as_it_is(name: str, modules: Mapping[str, str]) -> str:
    return modules[name]


def _started(command: list[str], *, changed: bool, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, **options)


@dataclass(frozen=True)
class Instrument:
    """Parameters
    ----------
    change : callable
        Given the name of a module and the texts of all modules that are built with it, by name, the text to build in its place.
    flags : sequence of str
        More of Verilator's, behind ours.
    start : callable
        Starts simulators: given the command, whether ``change`` has ``changed`` the simulator, and options, all as keywords, of
        `subprocess.Popen`; returns that, or what is like it.
    """

    change: Callable[[str, Mapping[str, str]], str] = _as_it_is
    flags: Sequence[str] = ()
    start: Callable[..., Any] = _started

    def changed(self, verilog: str) -> str:
        """A text of modules, each as it is to be built."""
        modules = modules_of(verilog)
        return MODULE.sub(lambda match: self.change(match[1], modules), verilog)


_NONE = Instrument()
_current: ContextVar[Instrument] = ContextVar("instrument", default=_NONE)


def current_instrument() -> Instrument:
    """That of the innermost `instrumented`; one that changes nothing outside of any."""
    return _current.get()


@contextmanager
def instrumented(instrument: Instrument) -> Iterator[None]:
    """In the ``with`` body, whatever is built is built with ``instrument``, and whatever is simulated is started with it."""
    token = _current.set(instrument)
    try:
        yield
    finally:
        _current.reset(token)
