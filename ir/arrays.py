"""Files of arrays (``.npz``), from anywhere: read within bounds, and nothing in them is run."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import IO

from numpy.lib import format as npy
from numpy.typing import NDArray

MOST_ARRAYS = 100_000
LEAST_LIMIT = 1 << 30
"""Bytes that the arrays of any file may have together."""
MOST_RATIO = 16
"""Of a larger file: bytes of arrays for each of its bytes. Numbers of models hardly get smaller by compression; a file that says
that its own did is made to fill the memory."""


class ArraysError(ValueError):
    """A file has no arrays that can be read; the message says why, and not which file."""


def read_arrays(path: str | Path) -> dict[str, NDArray]:
    """All arrays of a file, by name.

    Raises
    ------
    ArraysError
        If it is no such file, not a whole one, or if arrays have objects of Python, or more bytes than are there, or too many:
        `MOST_ARRAYS`, `LEAST_LIMIT`, `MOST_RATIO`.
    OSError
        If it cannot be opened.
    """
    with Path(path).open("rb") as opened:
        begin = opened.read(len(npy.MAGIC_PREFIX))
        if begin == npy.MAGIC_PREFIX:
            raise ArraysError("it is a single array (.npy)")
        size = opened.seek(0, 2)
        try:
            with zipfile.ZipFile(opened) as archive:
                return _arrays(archive, max(LEAST_LIMIT, MOST_RATIO * size))
        except ArraysError:
            raise
        except Exception as error:
            # Whatever zipfile, its decompressors and NumPy make of bytes that nobody of theirs has written.
            raise ArraysError(str(error) or type(error).__name__) from error


def _arrays(archive: zipfile.ZipFile, most: int) -> dict[str, NDArray]:
    members = archive.infolist()
    if len(members) > MOST_ARRAYS:
        raise ArraysError(f"it has {len(members):,} arrays, more than {MOST_ARRAYS:,}")
    total = sum(member.file_size for member in members)
    if total > most:
        raise ArraysError(f"its arrays have {total:,} bytes, more than {most:,}")
    found: dict[str, NDArray] = {}
    for member in members:
        name = member.filename.removesuffix(".npy")
        if name == member.filename or name in found:
            raise ArraysError(f"{member.filename!r} in it is {'another of that name' if name in found else 'no array (.npy)'}")
        content = io.BytesIO(archive.read(member))
        _check_header(content, name, member.file_size)
        content.seek(0)
        found[name] = npy.read_array(content, allow_pickle=False)
    return found


def _check_header(opened: IO[bytes], name: str, size: int) -> None:
    """Before NumPy makes room for what the header of a member of ``size`` bytes says."""
    version = npy.read_magic(opened)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ArraysError(f"array {name!r} is of version {version[0]}.{version[1]} of the format")
    shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(opened)
    if dtype.hasobject:
        raise ArraysError(f"array {name!r} has objects of Python, which are not read")
    if math.prod(shape) * dtype.itemsize > size:
        raise ArraysError(f"array {name!r} says that it has {math.prod(shape):,} numbers, more than are there")
