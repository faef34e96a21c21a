"""Lists of layers: one that is written out, those of a file, those that come with podweave."""

from __future__ import annotations

from pathlib import Path

from ..graph import Graph
from ..layers import CONV_FORM, GEMM_FORM, Layer, parse_workload
from .gemm_tables import DIRECTORY, network_names, read_layers
from .guessed_chain import chain
from .registry import ListFrontend


class SingleLayers(ListFrontend):
    """``gemm:...`` and ``conv:...``."""

    forms = (GEMM_FORM, CONV_FORM)

    def recognises(self, text: str) -> bool:
        return text.startswith(("gemm:", "conv:")) and "/" not in text

    def layers(self, text: str) -> list[Layer]:
        return [parse_workload(text)]


class Files(ListFrontend):
    """Paths that end in .csv."""

    forms = ("FILE.csv",)

    def recognises(self, text: str) -> bool:
        path = Path(text)
        # Below a file is no file, but a layer of it.
        return _is_csv(path) and not any(_is_csv(parent) and parent.is_file() for parent in path.parents)

    def layers(self, text: str) -> list[Layer]:
        return read_layers(Path(text))

    def load(self, text: str) -> Graph:
        return chain(Path(text).stem, self.layers(text))


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


class KnownLists(ListFrontend):
    """Lists that come with podweave."""

    forms = tuple(network_names())

    def recognises(self, text: str) -> bool:
        return text in self.forms

    def layers(self, text: str) -> list[Layer]:
        return read_layers(DIRECTORY / f"{text}.csv")
