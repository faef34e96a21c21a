"""A session of proofs: each property proven, its covers reached, its planted faults found; equivalences."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

from podweave.processes.pool import pool_of

from .catalogue import find
from .engines import NAMES, Answer, bounded, bounded_words, induction, pdr, unreached
from .equivalence import compare
from .errors import FormalError
from .faults import planted
from .model import Model, make_model
from .property import Property
from .tools import start

TIMEOUT = 600
"""Seconds that an engine may take for one model."""


def prove(prop: Property, *, timeout: float = TIMEOUT) -> dict[str, Any]:
    """JSON-ready: what was proven, how, in what time, and where each planted fault was found.

    ``verdict``: "pass" if all rules hold, all covers were reached and all faults found; "none" if an engine ran out of time before
    it knew; else "fail".
    """
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="podweave-formal-") as directory:
        model = make_model(prop.build, Path(directory))
        answer = _answer(prop, model, timeout)
        seconds = time.monotonic() - begin
        missed = unreached(model, prop.reach, timeout)
        faults = []
        for fault in prop.faults:
            with planted(fault):
                found = _answer(prop, make_model(prop.build, Path(directory)), timeout)
            faults.append({"fault": str(fault), "found": found.holds is False, "step": found.step})
    verdict = "none" if answer.holds is None else "pass"
    if answer.holds is False or missed or not all(fault["found"] for fault in faults):
        verdict = "fail"
    return {
        "name": prop.name,
        "block": prop.block,
        "rule": prop.rule,
        "sizes": prop.sizes,
        "kind": prop.kind,
        "engine": NAMES[prop.engine],
        "proven": answer.holds,
        "step": answer.step,
        "seconds": round(seconds, 1),
        "facts": len(model.facts),
        "covers": len(model.covers),
        "covers_missed": missed,
        "faults": faults,
        "seconds_in_all": round(time.monotonic() - begin, 1),
        "verdict": verdict,
    }


def _answer(prop: Property, model: Model, timeout: float) -> Answer:
    try:
        if prop.engine == "pdr":
            return pdr(model, timeout)
        engines = {"induction": induction, "bounded": bounded, "bounded words": bounded_words}
        return engines[prop.engine](model, prop.cycles, timeout)
    except subprocess.TimeoutExpired:
        return Answer(None, 0)


def prove_all(
    names: Sequence[str], *, jobs: int | None = None, timeout: float = TIMEOUT, progress: Callable[[str], None]
) -> dict[str, Any]:
    """The report of a session, JSON-ready, in the order of ``names``. ``jobs``: how many at a time, by default a core each."""
    begin, before = time.monotonic(), _processor_seconds()
    found: dict[str, dict[str, Any]] = {}
    start(progress)
    # Planted faults change modules of the process they are in.
    with pool_of(jobs or os.cpu_count() or 1) as workers:
        running = {workers.submit(_prove_named, name, timeout): name for name in names}
        progress(f"0 of {len(names)} properties and equivalences")
        for future in as_completed(running):
            row = future.result()
            found[row["name"]] = row
            progress(f"{len(found)} of {len(names)}: {row['name']}, {row['verdict']}, {row['seconds_in_all']:.0f} s")
    rows = [found[name] for name in names]
    verdicts = {row["verdict"] for row in rows}
    properties = [row for row in rows if "kind" in row]
    equivalences = [row for row in rows if "compared" in row]
    return {
        "properties": properties,
        "equivalences": equivalences,
        "unbounded": sum(row["kind"] == "unbounded" and row["verdict"] == "pass" for row in properties),
        "bounded": sum(row["kind"] != "unbounded" and row["verdict"] == "pass" for row in properties),
        "equivalent": sum(row["verdict"] == "pass" for row in equivalences),
        "faults": sum(len(row["faults"]) for row in rows),
        "faults_found": sum(fault["found"] for row in rows for fault in row["faults"]),
        "seconds": round(time.monotonic() - begin, 1),
        "processor_seconds": round(_processor_seconds() - before, 1),
        "verdict": next((verdict for verdict in ("fail", "none") if verdict in verdicts), "pass"),
    }


def _processor_seconds() -> float:
    """Of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _prove_named(name: str, timeout: float) -> dict[str, Any]:
    try:
        found = find(name)
        if isinstance(found, Property):
            return prove(found, timeout=timeout)
        with tempfile.TemporaryDirectory(prefix="podweave-formal-") as directory:
            return compare(found, Path(directory), timeout=timeout)
    except FormalError as error:
        raise FormalError(f"{name}: {error}") from error
