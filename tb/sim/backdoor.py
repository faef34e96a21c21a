"""Bulk access to arrays of the running simulation."""

from __future__ import annotations

import ctypes
import resource
import sys
from typing import TYPE_CHECKING

from ..benches.storage import stride

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def array(scope: str, name: str, elements: int, width: int) -> NDArray[np.uint8]:
    """A live view of a public array: (elements, stride) bytes, least significant first."""
    import numpy as np

    return np.frombuffer(contents(scope, name, elements, width), np.uint8).reshape(elements, stride(width))


def contents(scope: str, name: str, elements: int, width: int) -> memoryview:
    """The bytes of `array`, without NumPy: that takes as long to import as a short simulation of a block with all else."""
    lookup = ctypes.CDLL(None).podweave_variable
    lookup.restype = ctypes.c_void_p
    lookup.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    address = lookup(scope.encode(), name.encode())
    if not address:
        raise LookupError(f"no public variable {name!r} in scope {scope!r}")
    return memoryview((ctypes.c_uint8 * (elements * stride(width))).from_address(address)).cast("B")


def scopes() -> list[str]:
    """The names of all scopes of the model that have something public."""
    find = ctypes.CDLL(None).podweave_scopes
    find.restype = ctypes.c_ulonglong
    find.argtypes = [ctypes.c_char_p, ctypes.c_ulonglong]
    buffer = ctypes.create_string_buffer(find(None, 0))
    find(buffer, len(buffer))
    return buffer.raw.decode().splitlines()


def peak_bytes() -> int:
    """The most memory that the simulator has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
