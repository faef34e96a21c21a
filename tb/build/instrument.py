"""What changes every simulator that is built, and every start of one, while tests are judged: their own code stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from .blocks import MODULE


def _as_it_is(name: str, text: str) -> str:
    return text


def _nothing(changed: bool) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Instrument:
    """Parameters
    ----------
    change : callable
        Given the name and the text of a module of Verilog, the text to build in its place.
    flags : sequence of str
        More of Verilator's, behind ours.
    arguments : callable
        Given whether ``change`` has changed a simulator that is to be started, more arguments of it.
    """

    change: Callable[[str, str], str] = _as_it_is
    flags: Sequence[str] = ()
    arguments: Callable[[bool], Sequence[str]] = _nothing

    def changed(self, verilog: str) -> str:
        """A text of modules, each as it is to be built."""
        return MODULE.sub(lambda match: self.change(match[1], match[0]), verilog)


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
