"""Convolutions as SCALE-Sim lists them: eight columns or more, sizes that are padded already, windows counted upwards."""

from __future__ import annotations

import re

from ..layers import Layer
from ..texts import whole_number
from .table_files import Row

_SIZES = ("ifmap height", "ifmap width", "filter height", "filter width", "channels", "num filter")
CONVOLUTION_COLUMNS = (*_SIZES, "strides", "stride height", "stride width", "sparsity", "batch size")
_SPELLINGS = {"num filters": "num filter", "stride": "strides", "batch": "batch size", "sparsity ratio": "sparsity"}
_RATIO = re.compile("([0-9]{1,9}):([0-9]{1,9})")
# SCALE-Sim's own mark is DP anywhere in the name; its users also write dw and depthwise.
_DEPTHWISE = re.compile(r"(?<![a-z])dw(?![a-z])|depth[ _-]?wise", re.IGNORECASE)


def is_convolutions(columns: tuple[str, ...]) -> bool:
    """Whether a header, in small letters, is that of a list of convolutions."""
    return {*_SIZES} <= {_SPELLINGS.get(column, column) for column in columns}


def checked_columns(header: Row, columns: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    """The columns in one spelling, those of notes (from the first without a name on) as empty."""
    named = columns.index("") if "" in columns else len(columns)
    columns = (columns[0], *(_SPELLINGS.get(column, column) for column in columns[1:named]), *("" for _ in columns[named:]))
    for column in columns[1:named]:
        if column not in known:
            raise header.error(
                f"column {column!r} is not known; known are {', '.join(known)}; notes stand behind one without a name"
            )
        if columns.count(column) > 1:
            raise header.error(f"column {column!r} occurs twice")
    return columns


def named_cells(row: Row, columns: tuple[str, ...]) -> dict[str, str]:
    return {column: cell for column, cell in zip(columns, row.cells, strict=False) if column}


def require_ratio(row: Row, cells: dict[str, str]) -> None:
    """Sparsity is 1, or N:M."""
    ratio = cells.get("sparsity") or "1"
    match = _RATIO.fullmatch(ratio)
    if ratio != "1" and not (match and 1 <= int(match[1]) <= int(match[2])):
        raise row.error(f"sparsity must be N:M with N up to M, got {ratio!r}")


def convolution(row: Row, columns: tuple[str, ...]) -> Layer:
    """The layer of a row.

    An axis has ceil((size - kernel) / stride) + 1 outputs, as SCALE-Sim counts: where the last window overhangs, zeros stand
    behind the image. With DP in its name (or dw, or depthwise, and one filter) a layer is depthwise, with as many filters per
    channel as are listed. N:M sparsity is read, and multiplied densely.
    """
    cells = named_cells(row, columns)
    height, width, kernel_height, kernel_width, channels, filters = (row.number(size, cells.get(size, "")) for size in _SIZES)
    both = ("strides", "strides") if "strides" in columns else ("stride height", "stride width")
    down, across = (row.number(column, cells.get(column, "")) for column in both)
    behind = columns.index(both[1]) + 1 if both[1] in columns else 0
    # Without a name, one version takes a second number for the stride's width, another for nothing.
    if (
        both[0] == "strides"
        and not "".join(columns[behind:])
        and whole_number("".join(row.cells[behind : behind + 1])) not in (None, down)
    ):
        raise row.error(f"{row.cells[behind]!r} stands behind Strides without a name; name both: Stride height, Stride width")
    require_ratio(row, cells)
    name = row.cells[0]
    depthwise = "DP" in name or (filters == 1 and _DEPTHWISE.search(name) is not None)
    if kernel_height > height or kernel_width > width:
        raise row.error(f"the filter ({kernel_height}x{kernel_width}) is larger than the IFMAP ({height}x{width})")
    return Layer(
        name=name,
        batch=row.number("batch size", cells["batch size"]) if cells.get("batch size") else 1,
        height=height,
        width=width,
        channels=channels,
        outputs=channels * filters if depthwise else filters,
        kernel=(kernel_height, kernel_width),
        stride=(down, across),
        padding=((0, (kernel_height - height) % down), (0, (kernel_width - width) % across)),
        groups=channels if depthwise else 1,
    )
