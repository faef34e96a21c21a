"""Points of prefetch engines: descriptors and where their words lie, errors, stalls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from podweave.golden.cycle.prefetch.engine import STALLS, EngineModel, Fault
from podweave.golden.cycle.prefetch.reader import Head
from podweave.golden.cycle.prefetch.words import EngineGeometry
from podweave.spec.descriptors import RINGS, STORABLE, DescriptorKind, PrefetchError
from podweave.spec.load_port import HostSelect
from tests.coverage.functional.tally import SIGNS, Hit, crossed, loops_of, several, sign

_KINDS = ("LOAD", "STORE")
_LOADS = [select.name for select in HostSelect if select.name not in ("COUNTERS", "ERRORS", "ROWS")]
_STORES = [select.name for select in STORABLE]
_WORDS = ("less than a beat", "a beat", "several beats")
_BEGINS = ("from a beat on", "from within a beat on")
_LOOPS = ("n0", "n1", "n2")
_STEPS = ("step0", "step1", "step2", "stride1", "stride2")
_FLAGS = ("last", "broadcast", "column", "beside", "base_register", "moves", "turns", "after")
_PAGES = ("crosses 4 KiB", "ends at 4 KiB", "neither")
_BUSY = ("with nothing under way", "with others under way")
_CODES = [code.name for code in PrefetchError if code]
_COLUMNS = (
    "as columns",
    "as columns, from within a beat on",
)

ENGINE_POINTS = {
    "descriptors": [
        *crossed(RINGS, ["NOP"]),
        *crossed(RINGS, ["LOAD"], _LOADS),
        *crossed(RINGS, ["STORE"], _STORES),
    ],
    "descriptors: words and where they begin": [*crossed(_KINDS, _WORDS, _BEGINS), *_COLUMNS],
    "descriptors: loops": crossed(_KINDS, several(_LOOPS)),
    "descriptors: steps": crossed(_KINDS, _STEPS, SIGNS),
    # A store can be no broadcast, a load no column.
    "descriptors: flags": [
        *crossed(["LOAD"], [flag for flag in _FLAGS if flag != "column"]),
        *crossed(["STORE"], [flag for flag in _FLAGS if flag != "broadcast"]),
    ],
    "descriptors: runs and pages": crossed(_KINDS, _PAGES),
    "bursts": crossed(_KINDS, ("one beat", "some beats", "as many as may be")),
    "prefetch engine: errors": crossed(RINGS, _CODES),
    # Beats that are read are of something that is under way; a store may have ended before it is answered.
    "prefetch engine: errors, and what is under way": [
        name for name in crossed(_CODES, _BUSY) if not (name.startswith("READ") and name.endswith(_BUSY[0]))
    ],
    "prefetch engine: stalls": list(STALLS),
    "prefetch engine: controls": [
        *("stopped while it works", "cancelled tag", "runs without prefetch", "a cap", "no cap", "several passes", "late prefetch"),
    ],
}


def begun(model: EngineModel, ring: int, head: Head) -> Iterator[Hit]:
    """A descriptor begins."""
    d, kind = head.descriptor, DescriptorKind(head.descriptor.kind).name
    if kind == "NOP":
        yield "descriptors", f"{RINGS[ring]}, NOP"
        return
    yield "descriptors", f"{RINGS[ring]}, {kind}, {HostSelect(d.select).name}"
    beat, target = model.geometry.beat_bytes, model.geometry.targets[d.select]
    starts, size = d.memory_runs(target)
    words = _WORDS[0 if target.stride < beat else 1 + (target.stride > beat)]
    for within in np.unique(starts % beat != 0).tolist():
        if d.column:
            yield "descriptors: words and where they begin", _COLUMNS[int(within)]
        else:
            yield "descriptors: words and where they begin", f"{kind}, {words}, {_BEGINS[int(within)]}"
    columns: dict[str, Any] = {name: [getattr(d, name)] for name in _LOOPS}
    yield "descriptors: loops", f"{kind}, {loops_of(columns, 0, _LOOPS)}"
    for name in _STEPS:
        if getattr(d, f"n{name[-1]}") > 1:
            yield "descriptors: steps", f"{kind}, {name}, {sign(getattr(d, name))}"
    for name in _FLAGS:
        if getattr(d, name):
            yield "descriptors: flags", f"{kind}, {name}"
    end = starts + size
    for crosses, ends_there in np.unique(np.stack([starts // 4096 != (end - 1) // 4096, end % 4096 == 0]), axis=1).T.tolist():
        yield "descriptors: runs and pages", f"{kind}, {_PAGES[0 if crosses else 2 - ends_there]}"
    if ring == 1 and model.inputs.epochs_done >= head.tag:
        yield "prefetch engine: controls", "late prefetch"


def burst(geometry: EngineGeometry, kind: str, beats: int) -> Hit:
    """A burst is on the bus."""
    limit = geometry.burst_limit
    return "bursts", f"{kind}, {'as many as may be' if beats == limit else 'some beats' if beats > 1 else 'one beat'}"


def failed(fault: Fault, *, busy: bool) -> Iterator[Hit]:
    """What becomes the first error; ``busy``: others are under way."""
    code = PrefetchError(fault.code).name
    yield "prefetch engine: errors", f"{RINGS[fault.ring]}, {code}"
    yield "prefetch engine: errors, and what is under way", f"{code}, {_BUSY[int(busy)]}"


def controlled(inputs: Any) -> Iterator[Hit]:
    """What an engine is told."""
    yield "prefetch engine: controls", "a cap" if inputs.cap else "no cap"
    if not inputs.enable:
        yield "prefetch engine: controls", "runs without prefetch"
    if inputs.cancel is not None:
        yield "prefetch engine: controls", "cancelled tag"
    if inputs.passes > 1:
        yield "prefetch engine: controls", "several passes"
