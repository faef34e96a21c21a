"""A random case: what it was, what came of it, and how much was held against models."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from podweave.compiler.compile_network import CompiledNetwork
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError
from podweave.spec.config_parts import ConfigError

from .choices import Choices, TooManyChoicesError

COUNTED = ("networks", "jobs", "transfers", "cycles", "compared", "ties", "configurations")
"""What is counted: networks or engines' programs that ran; jobs of pods, post-processors and links; descriptors; simulated cycles;
values compared; of those, results that onnxruntime's float32 may round either way; configurations built."""


@dataclass
class Outcome:
    """What came of a case.

    Members
    -------
    verdict : {"pass", "fail", "refused"}
        "refused": podweave says, with a sentence, that it takes no such thing; nothing ran.
    why : str
        Of a failure, its sort: failures of another sort are other failures.
    sentence : str
        What differs, or what was said.
    text : str
        The case, for people.
    counts : dict
        Of `COUNTED`.
    has_run : bool
        Something of it ran.
    """

    verdict: Literal["pass", "fail", "refused"] = "pass"
    why: str = ""
    sentence: str = ""
    text: str = ""
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    has_run: bool = False

    def add(self, **counts: int) -> None:
        for name, count in counts.items():
            self.counts[name] += count

    def failed(self, why: str, sentence: str) -> None:
        """Keeps the first."""
        if self.verdict != "fail":
            self.verdict, self.why, self.sentence = "fail", why, sentence

    def refused(self, sentence: str) -> None:
        """Something of it is not taken; if nothing else runs, neither is the case. A failure stays one."""
        if self.verdict != "fail":
            self.verdict, self.sentence = "pass" if self.has_run else "refused", sentence

    def ran(self) -> None:
        """Something of it ran, whatever was refused; a failure stays one."""
        self.has_run = True
        if self.verdict != "fail":
            self.verdict = "pass"


Run = Callable[[Choices, int, Outcome], None]
"""Makes a case of what is chosen and a seed of its numbers, runs it, and fills in what came of it."""
REFUSALS = (WorkloadError, ConfigError)
"""What podweave says of what it does not take."""


def attempt(run: Run, choices: Choices, seed: int) -> Outcome:
    """What comes of a case; whatever it raises, but refusals, is a failure."""
    outcome = Outcome()
    try:
        run(choices, seed, outcome)
    except REFUSALS as error:
        outcome.refused(str(error))
    except TooManyChoicesError as error:
        outcome.refused(str(error))
    except Exception as error:
        place = error.__traceback__
        while place and place.tb_next:
            place = place.tb_next
        where = f"{place.tb_frame.f_globals.get('__name__')}:{place.tb_lineno}" if place else ""
        outcome.failed(type(error).__name__, f"{type(error).__name__} in {where}: {error}")
    return outcome


def count_network(network: CompiledNetwork) -> dict[str, int]:
    """Jobs and transfers of a network."""
    tables = [table for each in network.programs for table in (each.loads, each.streams, each.posts)]
    tables += [table for each in network.rows for table in (each.loads, each.streams, each.posts)]
    jobs = sum(len(table["start"]) for table in tables)
    jobs += sum(len(next(iter(table.values()))) for each in network.collectives for table in (each.sends, each.receives))
    rings = network.image.rings() if network.image else ()
    return {"networks": 1, "jobs": jobs, "transfers": sum(len(ring) for of_kind in rings for ring in of_kind)}


def hold_report(outcome: Outcome, report: dict[str, Any]) -> None:
    """A report of `run_jobs`: anything but exact is a failure."""
    for row in report["networks"]:
        outcome.add(cycles=row["cycles"], compared=row["compared"])
        if row["verdict"] == "pass":
            continue
        name = row["network"]
        if row["mismatches"]:
            outcome.failed("values", f"{name}: {row.get('first_mismatch')}")
        elif row["errors"] or not row["finished"]:
            outcome.failed("errors", f"{name}: {', '.join(row['errors']) or 'did not end'}")
        elif row["cycles"] != row["predicted_cycles"]:
            outcome.failed("cycles", f"{name}: {row['cycles']} cycles, predicted {row['predicted_cycles']}")
        else:
            outcome.failed("counters", f"{name}: {', '.join(row['counters_differing'])} not as predicted")
    if report["failure"]:
        outcome.failed("failure", report["failure"])
    if report["verdict"] != "pass":
        outcome.failed("verdict", f"the verdict of the run is {report['verdict']}")


def describe(graphs: Iterable[Graph], **settings: object) -> str:
    """Graphs and what they run on, for people: a line each."""
    return "\n".join([*(f"{name} = {value}" for name, value in settings.items()), *(repr(graph) for graph in graphs)])
