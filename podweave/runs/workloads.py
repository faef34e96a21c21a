"""The workloads of the command line: those of `ir.frontends`, ONNX files, and the digits, whose constants and images are known."""

from __future__ import annotations

from collections.abc import Sequence

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
from podweave.ir.frontends.onnx import HOST_OPS, ModelFiles, is_model_file
from podweave.ir.frontends.onnx_rows import RowFiles
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError

from ..digits import digits_graph

__all__ = [
    "DIGIT_BATCH",
    "Digits",
    "LayerList",
    "load_graph",
    "load_layers",
    "require_layers",
    "with_options",
    "with_sizes",
    "workload_forms",
]

DIGIT_BATCH = 25
"""Images of the digits that run in one epoch."""


def with_sizes(text: str, sizes: Sequence[str] | None, *, host_ops: bool = False) -> str:
    """An ONNX file with sizes that it leaves open, each NAME=N, and what is left to the host, put behind its name."""
    if (sizes or host_ops) and not is_model_file(text):
        raise WorkloadError(f"{text} is no ONNX file: only those leave sizes open, or operators to the host")
    return ",".join([text, *(sizes or ()), *([HOST_OPS] if host_ops else ())])


class Digits(Frontend):
    """The CNN of the demo."""

    forms = ("digits",)

    def recognises(self, text: str) -> bool:
        return text == "digits"

    def load(self, text: str) -> Graph:
        return digits_graph(DIGIT_BATCH)


register(ModelFiles())
register(RowFiles())
register(Digits())
