"""Points of collective engines and link ports: jobs, errors, waits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from podweave.golden.cycle.link.engine import EngineModel
from podweave.golden.cycle.link.port import PortModel
from podweave.golden.cycle.link.words import FAULT, Job
from podweave.golden.cycle.ports import PortTrace
from podweave.spec.links import CollectiveKind, LinkError
from tests.coverage.functional.tally import Hit, crossed, several

_SIDES, _KINDS = ("sent", "received"), [kind.name for kind in CollectiveKind]
_LOOPS = ("n0", "n1", "n2")
_CODES = [code.name for code in LinkError if code]
_WHICH = ("in the first collective", "in a later one")
_PORT = (
    *("a word is sent", "a word waits for a credit", "a flit waits for the link", "a fault is sent"),
    *("a flit arrives", "a flit of another run arrives", "a flit waits to be taken", "crc_error", "overflow", "neighbour_failed"),
    *("a credit is given back", "credits of another run", "the link is down", "two runs"),
)

LINK_POINTS = {
    "collectives": [
        *crossed(_SIDES, _KINDS),
        *crossed(_SIDES, ["nothing"]),
        "received, P, added",
        "sent, follows",
        "several in a run",
    ],
    "collectives: loops": crossed(_SIDES, several(_LOOPS)),
    "collective engine: errors": crossed(_CODES, _WHICH),
    "collective engine: waits": ["for the neighbour's words", "for the link", "stopped in a collective", "for a word to send on"],
    "link port": list(_PORT),
}


def collective_hits(model: EngineModel) -> Iterator[Hit]:
    """What a collective engine does in a stimulus."""
    begins = [made.begin for made, *_ in model.collectives]
    starts = np.flatnonzero(model.inputs["start"])
    run_of = np.searchsorted(starts, begins, side="right")
    for made, end, _ in model.collectives:
        for side, walk in zip(_SIDES, (made.send, made.receive), strict=True):
            if not walk.words:
                yield "collectives", f"{side}, nothing"
                continue
            yield "collectives", f"{side}, {_KINDS[walk.kind]}"
        if len(made.receive.add) and made.receive.add.any():
            yield "collectives", "received, P, added"
        after = made.send.after
        if len(after) and (after >= 0).any():
            yield "collectives", "sent, follows"
        takes = made.takes[made.takes < end]
        if len(takes) > 1 and (np.diff(takes) > 1).any():
            yield "collective engine: waits", "for the neighbour's words"
        if any(len(each) and each[0] > shown for each, shown in zip(made.handed, made.shown, strict=True)):
            yield "collective engine: waits", "for the link"
        if model.fault[made.begin : made.last_busy + 1].any():
            yield "collective engine: waits", "stopped in a collective"
        if len(made.reads) > 1 and (after[: len(made.reads)] >= 0).any() and (np.diff(made.reads) > 1).any():
            yield "collective engine: waits", "for a word to send on"
    if len(np.unique(run_of)) < len(run_of):
        yield "collectives", "several in a run"
    yield from _jobs(model)
    for cycle in np.flatnonzero(np.diff(model.error, prepend=0)).tolist():
        if model.error[cycle]:
            begun = sum(start <= cycle for start in starts)
            later = sum(begin < cycle and run == begun for begin, run in zip(begins, run_of, strict=True)) > 1
            yield "collective engine: errors", f"{LinkError(model.error[cycle]).name}, {_WHICH[int(later)]}"


def _jobs(model: EngineModel) -> Iterator[Hit]:
    """Loops of jobs of collectives that have begun."""
    ids = {made.id for made, *_ in model.collectives}
    for load in model.loads:
        job: Job = load.job
        if job.id in ids and job.words and job.count:
            loops = [name for name in _LOOPS if getattr(job, name) > 1]
            yield "collectives: loops", f"{_SIDES[load.store]}, {'loops ' + ' '.join(loops) if loops else 'one word'}"


def port_hits(model: PortModel, ports: dict[str, PortTrace]) -> Iterator[Hit]:
    """What a link port does in a stimulus."""
    inputs, value = model.inputs, {name: trace.value for name, trace in ports.items()}
    valid, first = inputs["send_valid"] == 1, inputs["send_first"] == 1
    ready, shown, taken = (array == 1 for array in (value["send_ready"], value["link_tx_valid"], inputs["link_tx_ready"]))
    given, received = model._credits()[2], inputs["link_rx_valid"] == 1
    runs = inputs["link_rx_user"] >> 2
    kinds = value["link_tx_user"] & 3
    seen = {
        "a word is sent": valid & ready & first,
        "a word waits for a credit": valid & first & ~ready & given,
        "a flit waits for the link": shown & ~taken,
        "a fault is sent": shown & (kinds == FAULT),
        "a flit arrives": received,
        "a flit of another run arrives": received & (runs != model.run),
        "a flit waits to be taken": (value["received_valid"] == 1) & (inputs["received_ready"] == 0),
        **{name: value[name] == 1 for name in ("crc_error", "overflow", "neighbour_failed")},
        "a credit is given back": value["link_rx_credit"] == 1,
        "credits of another run": (inputs["link_tx_credit"] == 1) & (inputs["link_tx_credit_run"] != model.run),
        "the link is down": value["link_up"] == 0,
    }
    yield from (("link port", name) for name, when in seen.items() if when[1:].any())
    if len(model.starts) > 1:
        yield "link port", "two runs"
