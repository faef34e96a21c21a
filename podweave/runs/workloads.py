"""The workloads of the command line: those of `ir.frontends`, and the digits, whose constants and images are known."""

from __future__ import annotations

from podweave.ir.frontends import (
    Frontend,
    LayerList,
    load_graph,
    load_layers,
    register,
    require_layers,
    with_options,
    workload_forms,
)
from podweave.ir.graph import Graph

from ..digits import digits_graph

__all__ = [
    "DIGIT_BATCH",
    "Digits",
    "LayerList",
    "load_graph",
    "load_layers",
    "require_layers",
    "with_options",
    "workload_forms",
]

DIGIT_BATCH = 25
"""Images of the digits that run in one epoch."""


class Digits(Frontend):
    """The CNN of the demo."""

    forms = ("digits",)

    def recognises(self, text: str) -> bool:
        return text == "digits"

    def load(self, text: str) -> Graph:
        return digits_graph(DIGIT_BATCH)


register(Digits())
