"""The kinds of random cases, by name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..program import extra
from .case import Outcome, Run, attempt
from .choices import Choices


def _of_graphs(name: str) -> Run:
    from . import graph_kinds

    return getattr(graph_kinds, name)


def _of_files(name: str) -> Run:
    # They need onnxruntime, which others do without.
    with extra("onnx", "podweave fuzz of ONNX files"):
        from . import file_kind

    return getattr(file_kind, name)


def _of_tables(name: str) -> Run:
    from . import table_kind

    return getattr(table_kind, name)


def _of_configs(name: str) -> Run:
    from . import config_kind

    return getattr(config_kind, name)


def _of_engines(name: str) -> Run:
    from . import engine_kind

    return getattr(engine_kind, name)


@dataclass(frozen=True)
class Kind:
    """``about``: what is random. ``load``, ``function``: what makes and runs a case, which is imported when one is run."""

    about: str
    load: Callable[[str], Run]
    function: str

    @property
    def run(self) -> Run:
        return self.load(self.function)


KINDS = {
    "chip": Kind("networks of layers on chips, one epoch each; every sum, output, cycle and counter", _of_graphs, "run_chip"),
    "accelerator": Kind("networks from any memory over AXI; outputs, cycles and counters", _of_graphs, "run_accelerator"),
    "llm": Kind("graphs of operations on rows, with layers beside them, over AXI", _of_graphs, "run_rows"),
    "chips": Kind("graphs of rows on rings of two to four chips, any links", _of_graphs, "run_chips"),
    "onnx": Kind("ONNX files as onnxruntime quantises them, beside onnxruntime and from memory", _of_files, "run_onnx"),
    "attention": Kind("the same of networks with norms and attention among their layers", _of_files, "run_attention"),
    "config": Kind("configurations: what is legal is emitted, linted, built, and runs exactly", _of_configs, "run_config"),
    "csv": Kind("tables of layers, on chips", _of_tables, "run_csv"),
    "axi": Kind("programs of prefetch engines, with faults; every port in every cycle", _of_engines, "run_engine"),
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
