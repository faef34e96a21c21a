"""Networks as graphs of layers: the topologies that come with podweave, and guesses for bare lists of GEMMs."""

from __future__ import annotations

import re
from pathlib import Path

from ..graph import Graph
from ..layers import CONV_FORM, GEMM_FORM, WorkloadError
from .cnn import DENSENETS, RESNETS, densenet, densenet121, inception_v3, resnet, resnet50
from .gemm_tables import load_workload, network_names
from .guessed_chain import chain
from .transformer import BERTS, bert, bert_named, feed_forward

__all__ = [
    "GRAPH_FORMS",
    "bert",
    "bert_named",
    "chain",
    "densenet",
    "densenet121",
    "feed_forward",
    "inception_v3",
    "load_graph",
    "resnet",
    "resnet50",
]

_FEED_FORWARD = re.compile(r"ffn_([0-9]{1,6})_([0-9]{1,6})(?:_([0-9]{1,6}))?")
_NETWORK = re.compile(r"(resnet|densenet|inception|bert_)([0-9]+|[a-z]+|)(?:_([0-9]{1,6}))?")
_USUAL_SIZE = {"resnet": 224, "densenet": 224, "inception": 299}

GRAPH_FORMS = (
    *(f"resnet{depth}[_SIZE]" for depth in RESNETS),
    *(f"densenet{depth}[_SIZE]" for depth in DENSENETS),
    "inception[_SIZE]",
    *(f"bert_{size}_TOKENS" for size in BERTS),
    "ffn_HIDDEN_INTERMEDIATE[_TOKENS]",
)


def _topology(name: str) -> Graph | None:
    if match := _FEED_FORWARD.fullmatch(name):
        return feed_forward(int(match[1]), int(match[2]), int(match[3] or 1))
    match = _NETWORK.fullmatch(name)
    if not match:
        return None
    family, variant = match[1], match[2]
    if match[3] is None and family not in _USUAL_SIZE:
        return None
    size = int(match[3] or _USUAL_SIZE[family])
    if family == "inception" and not variant:
        return inception_v3(size)
    if family == "bert_" and variant in BERTS:
        return bert_named(variant, size)
    if variant.isdigit() and int(variant) in {"resnet": RESNETS, "densenet": DENSENETS}.get(family, {}):
        return (resnet if family == "resnet" else densenet)(int(variant), size)
    return None


def load_graph(name: str) -> Graph:
    """The graph of a network: a topology at any size (GRAPH_FORMS), else the chain of a workload's layers.

    >>> load_graph("resnet50_224").shape("avg_pool")
    (1, 1, 1, 2048)
    """
    if graph := _topology(name):
        return graph
    path = Path(name)
    if name.startswith(("gemm:", "conv:")) or path.suffix == ".csv" or name.partition("/")[0] in network_names():
        return chain(path.stem if path.suffix == ".csv" else name, load_workload(name))
    raise WorkloadError(
        f"network {name!r} is none of {', '.join(GRAPH_FORMS)}, {', '.join(network_names())}, {GEMM_FORM}, {CONV_FORM}, "
        "or a path that ends in .csv"
    )
