"""The kinds of random cases, by name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from .case import Outcome, Run, attempt
from .choices import Choices


@dataclass(frozen=True)
class Kind:
    """``about``: what is random. ``module``, ``function``: what makes and runs a case; it is imported when one is run."""

    about: str
    module: str
    function: str

    @property
    def run(self) -> Run:
        # Some need packages that others do without.
        from importlib import import_module

        return getattr(import_module(f"podweave.fuzz.{self.module}"), self.function)


KINDS = {
    "chip": Kind("networks of layers on chips, one epoch each; every sum, output, cycle and counter", "graph_kinds", "run_chip"),
    "accelerator": Kind("networks from any memory over AXI; outputs, cycles and counters", "graph_kinds", "run_accelerator"),
    "llm": Kind("graphs of operations on rows, with layers beside them, over AXI", "graph_kinds", "run_rows"),
    "chips": Kind("graphs of rows on rings of two to four chips, any links", "graph_kinds", "run_chips"),
    "onnx": Kind("ONNX files as onnxruntime quantises them, beside onnxruntime and from memory", "file_kinds", "run_onnx"),
    "config": Kind("configurations: what is legal is emitted, linted, built, and runs exactly", "config_kind", "run_config"),
    "csv": Kind("tables of layers, on chips", "file_kinds", "run_csv"),
    "axi": Kind("programs of prefetch engines, with faults; every port in every cycle", "engine_kind", "run_engine"),
}
"""By name, as ``--kind`` takes them."""


def seeds(kind: str, seed: int, index: int) -> list[int]:
    """Of the case of that ``index`` of a campaign."""
    return [seed, int.from_bytes(hashlib.sha256(kind.encode()).digest()[:4], "little"), index]


def run_case(kind: str, seed: int, index: int, given: Sequence[float] | None = None) -> tuple[Choices, Outcome]:
    """What was decided, and what came of it; ``given``: decisions, in place of those of the seed."""
    choices = Choices(seeds(kind, seed, index), given)
    # Of the initial state of the hardware.
    return choices, attempt(KINDS[kind].run, choices, (seed * 1_000_003 + index) % (1 << 31))
