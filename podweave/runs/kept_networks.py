"""Compiled networks, kept by content from run to run: what was compiled once is read.

The key is of all that a compilation depends on: graph, configuration, constants, options, the sources of the compiler and of what
it imports, and the versions of Python and NumPy. A file is a pickle behind its hash: one that is damaged is compiled anew, and one
that names anything but classes of podweave and arrays is not read. Like the simulators beside them, which are run as they lie
there, files are trusted as far as their folder is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import hashlib
import io
import os
import pickle
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave import compiler, ir, spec
from podweave.compiler.collection import without_collection
from podweave.compiler.compile_network import CompiledNetwork, CompileOptions, compile_network
from podweave.ir.constants import Parameters
from podweave.ir.graph import Graph
from podweave.spec.config import ChipConfig
from podweave.tb.build.kept import cache_directory, write_whole
from podweave.tb.build.sources import sources_hash

COMPILING = tuple(Path(str(room.__file__)).parent for room in (spec, ir, compiler))
"""Folders whose content decides programs."""
WORTH_KEEPING_S = 0.5
"""What compiles in less is not kept."""
MOST_BYTES = 2**30
"""Of all networks that are kept: beyond it, those go that were not used for longest."""
_DIGEST = hashlib.sha256().digest_size
_CLASSES = {"numpy": ("dtype", "ndarray"), "builtins": ("set", "frozenset", "slice", "range", "complex", "getattr")}


def compile_kept(
    graph: Graph,
    config: ChipConfig,
    constants: Mapping[str, Parameters] | None = None,
    options: CompileOptions | None = None,
    *,
    progress: Callable[[str], None] | None = None,
) -> CompiledNetwork:
    """`compile_network`, unless it was done before; ``seconds`` are those of then.

    Networks that are placed beside others (`CompileOptions.shared`) are compiled every time.
    """
    options = options or CompileOptions()
    if options.shared is not None:
        return compile_network(graph, config, constants, options, progress=progress)
    file = folder() / f"{network_key(graph, config, constants, options)}.network"
    given = _given(graph, config, constants)
    found = _read(file, given)
    if found is not None:
        return found
    began = time.perf_counter()
    network = compile_network(graph, config, constants, options, progress=progress)
    if time.perf_counter() - began > WORTH_KEEPING_S:
        _write(file, network, given)
    return network


def folder() -> Path:
    return cache_directory() / "networks"


def network_key(graph: Graph, config: ChipConfig, constants: Mapping[str, Parameters] | None, options: CompileOptions) -> str:
    """Networks of equal key are compiled to equal programs."""
    digest = hashlib.sha256()
    _add(digest, (versions(), graph, config, None if constants is None else dict(constants), options))
    return digest.hexdigest()[:32]


@functools.cache
def versions() -> tuple[str, ...]:
    """Of the sources that decide programs, and of what runs and writes them."""
    return sources_hash(COMPILING), sys.version, np.__version__


def _add(digest: Any, value: object) -> None:
    """Add a value to a hash, so that no two values that differ add the same; raises TypeError for what it does not know."""
    if isinstance(value, np.ndarray):
        # Elements that are one in memory are one here: model weights may be zeros that take no room.
        digest.update(f"array {value.dtype.str} {value.shape} {_alike(value)}:".encode())
        digest.update(np.ascontiguousarray(_distinct(value)).data)
    elif isinstance(value, enum.Enum):
        digest.update(f"enum {type(value).__qualname__}.{value.name};".encode())
    elif isinstance(value, np.generic):
        _add(digest, value.item())
    elif value is None or isinstance(value, (bool, int, float, str, bytes)):
        text = repr(value).encode()
        digest.update(f"{type(value).__name__} {len(text)}:".encode() + text)
    elif dataclasses.is_dataclass(value):
        digest.update(f"{type(value).__module__}.{type(value).__qualname__}(".encode())
        for field in dataclasses.fields(value):
            _add(digest, field.name)
            _add(digest, getattr(value, field.name))
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)}:".encode())
        for key, each in value.items():
            _add(digest, key)
            _add(digest, each)
    elif isinstance(value, (set, frozenset)):
        digest.update(f"set {len(value)}:".encode())
        for each in sorted(value):
            _add(digest, each)
    elif isinstance(value, (tuple, list)):
        digest.update(f"sequence {len(value)}:".encode())
        for each in value:
            _add(digest, each)
    else:
        raise TypeError(f"a network cannot be kept by a {type(value).__name__}")


def _alike(array: NDArray[Any]) -> tuple[bool, ...]:
    """Along which axes all elements are one in memory."""
    return tuple(stride == 0 and length > 1 for stride, length in zip(array.strides, array.shape, strict=True))


def _distinct(array: NDArray[Any]) -> NDArray[Any]:
    return array[tuple(slice(0, 1) if same else slice(None) for same in _alike(array))]


def _given(graph: Graph, config: ChipConfig, constants: Mapping[str, Parameters] | None) -> list[object]:
    """What of a network its callers have: it is not written, and what is read has theirs."""
    found: list[object] = [graph, config]
    for held in (constants or {}).values():
        found += [*held.weights, held.bias, held.multiplier, held.shift]
    return found


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, given: Sequence[object]):
        super().__init__(file, protocol=5)
        self.numbers = {id(value): number for number, value in enumerate(given)}

    def persistent_id(self, value: Any) -> int | None:
        return self.numbers.get(id(value))

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return NotImplemented
        if any(_alike(value)):
            return np.broadcast_to, (np.array(_distinct(value)), value.shape)
        if value.dtype == np.int64 and value.size:
            # Fields of jobs are narrow.
            low, high = int(value.min()), int(value.max())
            kind = np.result_type(np.min_scalar_type(low), np.min_scalar_type(high))
            if kind.itemsize < 8:
                return _widened, (value.astype(kind),)
        return NotImplemented


def _widened(values: NDArray[Any]) -> NDArray[np.int64]:
    return values.astype(np.int64)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, given: Sequence[object]):
        super().__init__(file)
        self.given = given

    def persistent_load(self, number: Any) -> object:
        return self.given[number]

    def find_class(self, module: str, name: str) -> Any:
        room = module.partition(".")[0]
        if module.startswith("podweave.") or room == "numpy" or name in _CLASSES.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a network")


def _write(file: Path, network: CompiledNetwork, given: Sequence[object]) -> None:
    buffer = io.BytesIO()
    with without_collection():
        _Pickler(buffer, given).dump(network)
    content = buffer.getvalue()
    # A cache that cannot be written is no reason to end a run that has its network.
    with contextlib.suppress(OSError):
        write_whole(file, hashlib.sha256(content).digest() + content)
        _make_room(file)


def _read(file: Path, given: Sequence[object]) -> CompiledNetwork | None:
    try:
        whole = file.read_bytes()
        if hashlib.sha256(memoryview(whole)[_DIGEST:]).digest() != whole[:_DIGEST]:
            return None
        with without_collection():
            found = _Unpickler(io.BytesIO(memoryview(whole)[_DIGEST:]), given).load()
        os.utime(file)
    except (OSError, pickle.UnpicklingError, ImportError, AttributeError):
        return None
    return found if isinstance(found, CompiledNetwork) else None


def _make_room(newest: Path) -> None:
    """Remove what was not used for longest, until all is within the limit; the newest stays."""
    known = []
    for file in newest.parent.glob("*.network"):
        with contextlib.suppress(OSError):
            state = file.stat()
            known.append((state.st_mtime, state.st_size, file))
    over = sum(size for _, size, _ in known) - MOST_BYTES
    for _, size, file in sorted(known):
        if over <= 0:
            break
        if file != newest:
            with contextlib.suppress(OSError):
                file.unlink()
            over -= size
