"""A transformer in integers, as `podweave quantise` makes it of an ONNX file, in a file of its own."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arrays import read_arrays
from ...constants import Constants, Parameters
from ...graph import Graph
from ...layers import WorkloadError
from ...row_graph import RowGraph, verify_row_constants, verify_rows
from ...row_operations import Append, Attention, Format, Gelu, LayerNorm, RowLinear, RowOperation
from ..registry import Frontend
from ..row_builder import require_sizes
from .floats import Mask

_FORMAT = "podweave rows 1"
_KINDS: Mapping[str, type[RowOperation]] = {kind.__name__: kind for kind in (RowLinear, LayerNorm, Gelu, Attention, Append)}
_ARRAYS = ("bias", "multiplier", "shift", "wide_table")
_SUFFIX = ".rows"


_RANGES = {Format.WIDE: (-(2**31), 2**31 - 1), Format.INT16: (-32768, 32639), Format.INT8: (-128, 127)}


class RowFileError(WorkloadError):
    """A file that is no transformer in integers, or not a whole one."""


@dataclass(frozen=True)
class RowTensor:
    """A tensor of the graph as it is in the file: integers times ``unit``, one or one for each channel, plus ``offset``."""

    name: str
    unit: NDArray[np.float64]
    offset: NDArray[np.float64]

    def real(self, values: NDArray[np.integer]) -> NDArray[np.float64]:
        """Real numbers of integers (..., channels)."""
        return values.astype(np.float64) * self.unit + self.offset

    def integers(self, values: NDArray[np.floating], form: Format) -> NDArray[np.integer]:
        """Integers of real numbers, saturated."""
        least, largest = _RANGES[form]
        found: NDArray[np.integer] = np.clip(np.rint((values.astype(np.float64) - self.offset) / self.unit), least, largest).astype(
            form.dtype
        )
        return found


@dataclass(frozen=True)
class IntegerRows:
    """A transformer of an ONNX file in integers, with what the host computes in front of it and behind it.

    Members
    -------
    name : str
        Of the file.
    graph : RowGraph
        Of as many rows as it was quantised for. Beside ``inputs`` it has caches, which hold nothing in front of a run, and
        "lengths", if there are masks.
    constants : Constants
    tensors : dict of RowTensor
        What inputs and operations of the graph are in the file; caches are in none.
    masks : tuple of Mask
        Of the file: they become "lengths".
    given : dict
        Types and sizes of the inputs of the file.
    file_outputs : tuple of str
        What it gives.
    on_host : tuple of str
        Operators and names of nodes behind the graph, and of convolutions in front of it.
    front, end : bytes
        ONNX models of what the host computes: from ``given`` to ``inputs`` and ``masks``; and from ``outputs``, ``given``, and what
        the front computes for it, to ``file_outputs``.
    """

    name: str
    graph: RowGraph
    constants: Constants
    tensors: Mapping[str, RowTensor]
    masks: tuple[Mask, ...]
    given: Mapping[str, tuple[str, tuple[int, ...]]]
    file_outputs: tuple[str, ...]
    on_host: tuple[str, ...]
    front: bytes
    end: bytes

    def __post_init__(self) -> None:
        verify_rows(self.graph)
        verify_row_constants(self.graph, self.constants)

    @property
    def rows(self) -> int:
        return self.graph.operations[0].rows

    @property
    def inputs(self) -> dict[str, RowTensor]:
        """By input of the graph, what the host computes in front of it."""
        return {name: self.tensors[name] for name in self.graph.inputs if name in self.tensors}

    @property
    def outputs(self) -> dict[str, RowTensor]:
        """By tensor of the graph, what the host reads."""
        return {name: self.tensors[name] for name in self.graph.outputs}

    def with_rows(self, rows: int) -> IntegerRows:
        """The same for texts of another length."""
        require_sizes(self.name, rows=rows)
        own = self.rows

        def size(number: int) -> int:
            return rows if number == own else number

        operations = tuple(
            replace(each, rows=rows, context=rows) if isinstance(each, Attention | Append) else replace(each, rows=rows)
            for each in self.graph.operations
        )
        inputs = {
            name: (1, 1, shape[2], rows) if self.graph.format(name) is Format.LENGTHS else (1, 1, rows, shape[3])
            for name, shape in self.graph.inputs.items()
        }
        graph = replace(self.graph, operations=operations, inputs=inputs)
        given = {name: (kind, (shape[0], *map(size, shape[1:2]), *shape[2:])) for name, (kind, shape) in self.given.items()}
        return replace(self, graph=graph, given=given)

    def save(self, path: Path) -> None:
        """Write it to one file, of the format of NumPy's ``npz``."""
        arrays: dict[str, NDArray] = {}
        for name, held in self.constants.items():
            arrays |= {f"constants/{name}/weights{number}": weights for number, weights in enumerate(held.weights)}
            arrays |= {f"constants/{name}/{what}": getattr(held, what) for what in _ARRAYS if getattr(held, what) is not None}
        for name, tensor in self.tensors.items():
            arrays |= {f"tensors/{name}/unit": tensor.unit, f"tensors/{name}/offset": tensor.offset}
        for part in ("front", "end"):
            arrays[part] = np.frombuffer(getattr(self, part), np.uint8)
        about = {
            "format": _FORMAT,
            "digest": self.constants.digest,
            "name": self.name,
            "graph": {
                "name": self.graph.name,
                "inputs": self.graph.inputs,
                "formats": {name: form.value for name, form in self.graph.formats.items()},
                "operations": [_described(each) for each in self.graph.operations],
                "outputs": self.graph.outputs,
            },
            "tensors": {name: tensor.name for name, tensor in self.tensors.items()},
            "masks": [asdict(mask) for mask in self.masks],
            "given": self.given,
            "file_outputs": self.file_outputs,
            "on_host": self.on_host,
        }
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _described(operation: RowOperation) -> dict[str, Any]:
    """An operation as JSON has it; what is as by default is left out."""
    found = {name: value for name, value in asdict(operation).items() if value not in (None, (), [])}
    return {"kind": type(operation).__name__} | {
        name: value.value if isinstance(value, Format) else value for name, value in found.items()
    }


def _operation(about: dict[str, Any]) -> RowOperation:
    kind, name, rows = about.pop("kind"), about.pop("name"), about.pop("rows")
    if "form" in about:
        about["form"] = Format(about["form"])
    return _KINDS[kind](name, rows, **about)


def load_rows(path: str | Path) -> IntegerRows:
    """Read what `IntegerRows.save` wrote.

    Raises
    ------
    RowFileError
        If it is no such file, not a whole one, or if its constants are not those that its hash was made of.
    """
    try:
        arrays = read_arrays(path)
        about = json.loads(arrays.pop("about").tobytes())
        found_format = about["format"]
    except OSError as error:
        raise RowFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise RowFileError(f"{path} is no transformer that podweave quantise wrote, or not a whole one: {error}") from error
    if found_format != _FORMAT:
        raise RowFileError(f"{path}: the format must be {_FORMAT!r}, got {found_format!r}")
    try:
        found = _rows(about, arrays)
    except (KeyError, TypeError) as error:
        raise RowFileError(f"{path}: it lacks {error}") from error
    except (WorkloadError, ValueError) as error:
        raise RowFileError(f"{path}: {error}") from error
    if found.constants.digest != about["digest"]:
        raise RowFileError(f"{path}: its constants have the hash {found.constants.digest}, and it says {about['digest']}")
    return found


def _rows(about: dict[str, Any], arrays: dict[str, NDArray]) -> IntegerRows:
    held: dict[str, dict[str, NDArray]] = {}
    for key in arrays:
        side, _, rest = key.partition("/")
        if side == "constants":
            name, _, what = rest.rpartition("/")
            held.setdefault(name, {})[what] = arrays[key]
    of_graph = about["graph"]
    graph = RowGraph(
        of_graph["name"],
        {name: (shape[0], shape[1], shape[2], shape[3]) for name, shape in of_graph["inputs"].items()},
        tuple(_operation(each) for each in of_graph["operations"]),
        tuple(of_graph["outputs"]),
        formats={name: Format(value) for name, value in of_graph["formats"].items()},
    )
    constants = {
        name: Parameters(
            tuple(parts[what] for what in sorted(parts) if what.startswith("weights")),
            parts["bias"],
            parts["multiplier"],
            parts["shift"],
            wide_table=parts.get("wide_table"),
        )
        for name, parts in held.items()
    }
    tensors = {
        name: RowTensor(of_file, arrays[f"tensors/{name}/unit"], arrays[f"tensors/{name}/offset"])
        for name, of_file in about["tensors"].items()
    }
    return IntegerRows(
        name=about["name"],
        graph=graph,
        constants=Constants(constants),
        tensors=tensors,
        masks=tuple(Mask(**mask) for mask in about["masks"]),
        given={name: (kind, tuple(shape)) for name, (kind, shape) in about["given"].items()},
        file_outputs=tuple(about["file_outputs"]),
        on_host=tuple(about["on_host"]),
        front=arrays["front"].tobytes(),
        end=arrays["end"].tobytes(),
    )


def is_row_file(text: str) -> bool:
    """Whether a workload is a transformer in integers, with its number of rows behind it or without."""
    return Path(text.partition(",")[0]).suffix.lower() == _SUFFIX


def row_file(text: str) -> IntegerRows:
    """That of FILE.rows, or of FILE.rows,rows=N; raises `WorkloadError`."""
    name, _, options = text.partition(",")
    path = Path(name)
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise RowFileError(f"{path} cannot be read: {error.strerror}") from error
    found = _read(path, changed)
    rows = RowFiles().given(text, options).get("rows")
    return found if rows is None else found.with_rows(rows)


@functools.lru_cache(maxsize=2)
def _read(path: Path, changed: int) -> IntegerRows:
    return load_rows(path)


class RowFiles(Frontend):
    """Paths that end in .rows."""

    forms = ("FILE.rows[,rows=N]",)

    def options(self, text: str) -> tuple[str, ...]:
        return ("rows",)

    def recognises(self, text: str) -> bool:
        return is_row_file(text)

    def load(self, text: str) -> Graph:
        return row_file(text).graph
