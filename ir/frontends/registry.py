"""What a workload may be, and who reads it: a registry of frontends, asked in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from ..graph import Graph
from ..layers import Layer, WorkloadError, shortened
from ..rewrites import single_operations
from ..row_graph import RowGraph
from ..texts import whole_number
from .guessed_chain import chain


class Frontend(ABC):
    """Reads the workloads of one kind. ``forms``: how they are written, for help and errors."""

    forms: tuple[str, ...] = ()

    def options(self, text: str) -> tuple[str, ...]:
        """Names of the options that may stand behind ``text`` as ``,NAME=NUMBER``."""
        return ()

    @abstractmethod
    def recognises(self, text: str) -> bool:
        """Whether ``text``, without a layer behind it, is of this kind, be it right or wrong."""

    @abstractmethod
    def load(self, text: str) -> Graph:
        """The graph; raises `WorkloadError`."""

    def given(self, text: str, options: str) -> dict[str, int]:
        """What ``,NAME=NUMBER``, as often as it is there in ``options``, says behind ``text``."""
        taken = self.options(text)
        found: dict[str, int] = {}
        for item in filter(None, options.split(",")):
            key, _, value = item.partition("=")
            if key not in taken:
                raise WorkloadError(f"{text}: unknown option {key!r}; allowed: {', '.join(taken)}")
            if key in found:
                raise WorkloadError(f"{text}: {key} is given more than once")
            found[key] = whole_number(value) or 0
        return found


class ListFrontend(Frontend):
    """Reads lists of layers, of which the connections are guessed."""

    @abstractmethod
    def layers(self, text: str) -> list[Layer]:
        """The layers in order; raises `WorkloadError`."""

    def load(self, text: str) -> Graph:
        return chain(shortened(text), self.layers(text))


_FRONTENDS: list[Frontend] = []


def register(frontend: Frontend) -> None:
    """Ask ``frontend`` too, behind those that are there. Of a class that is registered already, the new one takes its place."""
    _FRONTENDS[:] = [other for other in _FRONTENDS if type(other) is not type(frontend)]
    _FRONTENDS.append(frontend)


def workload_forms() -> tuple[str, ...]:
    """How workloads are written, in the order in which they are looked for."""
    return tuple(form for frontend in _FRONTENDS for form in frontend.forms)


def _found(text: str) -> tuple[list[Frontend], str, str]:
    """Who recognises a workload, and its two parts: the whole, and a layer of it or an empty text."""
    # What stands behind a "/" may be a layer, whose name may have one too.
    ends = [len(text), *(i for i in range(len(text) - 1, 0, -1) if text[i] == "/")]
    for end in ends:
        whole, layer = text[:end], text[end + 1 :]
        found = [frontend for frontend in _FRONTENDS if frontend.recognises(whole)]
        if found:
            return found, whole, layer
    raise WorkloadError(
        f"workload {shortened(text)!r} is none of {', '.join(workload_forms())}; behind any of them, /LAYER names one of its layers"
    )


def with_options(text: str, options: Mapping[str, int | None]) -> str:
    """A workload with options put into its text; those that are None are not given.

    >>> with_options("norm_64", {"rows": 4, "context": None})
    'norm_64,rows=4'
    """
    given = {name: value for name, value in options.items() if value is not None}
    if not given:
        return text
    frontends, whole, layer = _found(text)
    taken = frontends[0].options(whole)
    for name, value in given.items():
        if name not in taken:
            takers = [form for frontend in _FRONTENDS for form in frontend.forms if name in frontend.options(form)]
            raise WorkloadError(f"{shortened(text)} takes no {name}; those that do are {', '.join(takers)}")
        if f",{name}=" in whole:
            raise WorkloadError(f"{shortened(text)} says itself what {name} is: give it once")
        whole += f",{name}={value}"
    return f"{whole}/{layer}" if layer else whole


def require_layers(graph: Graph) -> None:
    """Raises `WorkloadError` for a graph whose operations cannot be run one by one."""
    if isinstance(graph, RowGraph):
        raise WorkloadError(
            f"{shortened(graph.name)} has operations on rows, which read what others leave in P and X banks: it runs as a whole; "
            "its parts are workloads of their own, as attention_..., gated_... and norm_..."
        )


def load_graph(text: str) -> Graph:
    """The graph of a workload, or of one operation of it: NETWORK/LAYER.

    >>> load_graph("resnet50_224").shape("avg_pool"), load_graph("resnet50/avg_pool").inputs
    ((1, 1, 1, 2048), {'conv5_block3_3_conv': (1, 7, 7, 2048)})
    """
    frontends, whole, layer = _found(text)
    graph = frontends[0].load(whole)
    if not layer:
        return graph
    require_layers(graph)
    for single in single_operations(graph):
        if single.name == layer:
            return single
    raise WorkloadError(f"{shortened(whole)} has no layer {shortened(layer)!r}")


@dataclass(frozen=True)
class LayerList:
    """Layers by themselves. ``left_out``: what else the network has, in words; empty if there is nothing."""

    layers: list[Layer]
    left_out: str = ""


def load_layers(text: str) -> LayerList:
    """The layers of a workload, or one of them, without what connects them.

    A list gives its rows; a graph its layers with weights, in order. Left out are its poolings and the additions of residuals.
    """
    frontends, whole, wanted = _found(text)
    lists = [frontend for frontend in frontends if isinstance(frontend, ListFrontend)]
    found = LayerList(lists[0].layers(whole)) if lists else layers_of(frontends[0].load(whole), wanted)
    if not wanted:
        return found
    layers = [layer for layer in found.layers if layer.name == wanted]
    if not layers:
        raise WorkloadError(f"{shortened(whole)} has no layer {shortened(wanted)!r}")
    return LayerList(layers, found.left_out)


def load_workload(text: str) -> list[Layer]:
    """`load_layers` without a word on what it leaves out."""
    return load_layers(text).layers


def layers_of(graph: Graph, wanted: str = "") -> LayerList:
    """The layers of a graph that have weights of their own; with ``wanted``, those of that operation only."""
    require_layers(graph)
    layers: list[Layer] = []
    poolings = additions = 0
    for operation in graph.operations:
        if wanted and operation.name != wanted:
            continue
        if operation.identity and wanted:
            raise WorkloadError(f"{wanted} of {graph.name} is a pooling, and has no weights: it is no layer by itself")
        poolings += operation.window is not None or operation.identity
        for number, operand in enumerate(() if operation.identity else operation.operands):
            # The first is the layer; a diagonal behind it adds a residual.
            if number and operand.is_diagonal:
                additions += 1
            else:
                layers.append(operand.layer)
    counts = [
        f"{count} {what}{'s' if count > 1 else ''}" for count, what in ((poolings, "pooling"), (additions, "addition")) if count
    ]
    left_out = " and ".join(counts).replace("addition", "residual addition")
    return LayerList(layers, left_out)
