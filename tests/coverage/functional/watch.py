"""Points seen while tests run: the models that tests hold blocks against are listened to, and the checks themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from podweave.golden.cycle.chip.post import PostModel
from podweave.golden.cycle.link.engine import EngineModel as CollectiveModel
from podweave.golden.cycle.link.port import PortModel
from podweave.golden.cycle.pod.pod import PodModel
from podweave.golden.cycle.prefetch.engine import EngineModel
from podweave.golden.cycle.prefetch.reader import Request
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.benches.chip_bench import ChipBench
from tests.coverage.functional import blocks, engines, links, pods
from tests.coverage.functional.tally import Hit, Table, Tally
from tests.rtl.control.control_bench import ControlBench

TABLES: tuple[Table, ...] = (pods.POD_POINTS, pods.POST_POINTS, engines.ENGINE_POINTS, links.LINK_POINTS, blocks.BLOCK_POINTS)
Hits = Iterable[Hit]


@contextmanager
def watching(tally: Tally) -> Iterator[None]:
    """In the ``with`` body, what models and checks see in this process is added to ``tally``.

    A model says what a block has to do, and its test holds the block against it: what it sees, the RTL has done.
    """
    with ExitStack() as stack:

        def after(owner: type, name: str, hits: Callable[..., Hits]) -> None:
            """Behind each call of a method: points of its ``self``, its result, and its arguments."""
            method = getattr(owner, name)

            @functools.wraps(method)
            def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
                result = method(self, *arguments, **named)
                tally.add(hits(self, result, *arguments))
                return result

            setattr(owner, name, wrapped)
            stack.callback(setattr, owner, name, method)

        def engine(name: str, hits: Callable[..., Hits]) -> None:
            # Models without a trace only look for what is worth a simulation.
            after(EngineModel, name, lambda model, *given: hits(model, *given) if model.agenda.log is not None else [])

        after(PodModel, "__init__", lambda model, *_: pods.pod_hits(model))
        after(PostModel, "__init__", lambda model, *_: pods.post_hits(model))
        engine("__init__", lambda model, *_: engines.controlled(model.inputs))
        engine("_begin", lambda model, _, ring, head: engines.begun(model, ring, head))
        engine("_first_error", _first_error)
        engine("_account", _stalls)
        engine("_stop", lambda *_: [("prefetch engine: controls", "stopped while it works")])
        engine("_cancel", lambda *_: [("prefetch engine: controls", "cancelled tag")])
        engine("_read_accepted", _read)
        engine("_write_received", lambda model, _, __, burst: [engines.burst(model.geometry, "STORE", burst.beats)])
        after(CollectiveModel, "ports", lambda model, *_: links.collective_hits(model))
        after(PortModel, "ports", lambda model, ports: links.port_hits(model, ports))
        after(BlockBench, "check", lambda bench, _, expected, observed: _checked(bench.name, expected, observed))
        after(ControlBench, "check", lambda _, __, part, expected, observed: _checked(part, expected, observed))
        after(ChipBench, "run", lambda _, run, *__: blocks.chip_counters(run))
        yield


def _checked(name: str, expected: Any, observed: Any) -> Hits:
    return blocks.checked(name, expected, len(next(iter(observed.values()))))


def _first_error(model: EngineModel, _: None, fault: Any) -> Hits:
    if model.error is fault:
        begun = bool(model._level) or bool(model.issuer.reads)
        yield from engines.failed(fault, busy=begun)


def _stalls(model: EngineModel, _: None, t: int, following: int, stalls: tuple[bool, ...], working: bool) -> Hits:
    yield from (("prefetch engine: stalls", name) for name, stalled in zip(engines.STALLS, stalls, strict=True) if stalled)


def _read(model: EngineModel, _: None, t: int, address: int, beats: int, what: Any) -> Hits:
    if not isinstance(what, Request):
        yield engines.burst(model.geometry, "LOAD", beats)
