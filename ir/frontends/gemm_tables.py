"""Files of layers: ``layer,M,K,N``, and SCALE-Sim's lists; the lists that come with podweave are among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..layers import Layer, WorkloadError, gemm
from .names import Names
from .scalesim import CONVOLUTION_COLUMNS, checked_columns, convolution, is_convolutions, named_cells, require_ratio
from .table_files import Row, RowError, read_rows

DIRECTORY = Path(__file__).with_name("workloads")
_SIZES = ("m", "k", "n")
_NAMES = ("layer", "layer name", "name", "l")


def network_names() -> list[str]:
    return sorted(path.stem for path in DIRECTORY.glob("*.csv"))


def read_layers(path: Path) -> list[Layer]:
    """Layers of a file, told apart by its header: M, K and N by their names in any order, or SCALE-Sim's convolutions.

    A name that occurs again gets a number (``conv#2``).
    """
    rows = read_rows(path)
    if not rows:
        raise WorkloadError(f"{path}: the file is empty; its first row must be layer,M,K,N or the header of a SCALE-Sim list")
    header, rows = rows[0], rows[1:]
    columns = tuple(" ".join(cell.lower().replace("_", " ").split()) for cell in header.cells)
    read: Callable[[Row, tuple[str, ...]], Layer]
    if columns[0] in _NAMES and set(_SIZES) <= {*columns}:
        columns, read = checked_columns(header, columns, (*_SIZES, "sparsity", "batch size")), _gemm
    elif columns[0] in _NAMES and is_convolutions(columns):
        columns, read = checked_columns(header, columns, CONVOLUTION_COLUMNS), convolution
    else:
        raise header.error(
            f"the first row must be layer,M,K,N (M, K and N in any order) or the header of a SCALE-Sim list "
            f"(Layer name, IFMAP Height, ...), got {header}"
        )
    names, layers = Names(), []
    for row in rows:
        if not row.cells[0]:
            raise row.error(f"the layer has no name: {row}")
        try:
            layer = read(row, columns)
        except RowError:
            raise
        except WorkloadError as error:
            raise row.error(str(error)) from error
        layers.append(replace(layer, name=names.unique(layer.name)))
    if not layers:
        raise WorkloadError(f"{path}: no layers")
    return layers


def _gemm(row: Row, columns: tuple[str, ...]) -> Layer:
    """A row with M, K and N; behind them SCALE-Sim may have a sparsity, and a batch of which only 1 is a GEMM."""
    cells = named_cells(row, columns)
    if len(row.cells) > len(columns):
        raise row.error(f"{len(row.cells)} cells, but the header has {len(columns)} columns: {row}")
    m, k, n = (row.number(size.upper(), cells.get(size, "")) for size in _SIZES)
    require_ratio(row, cells)
    if (batch := cells.get("batch size") or "1") != "1":
        raise row.error(f"a GEMM has no batch, got {batch!r}: list it as often, or multiply M if the weights are the same")
    return gemm(m, k, n, name=row.cells[0])
