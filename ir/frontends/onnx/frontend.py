"""ONNX files among the workloads."""

from __future__ import annotations

import functools
from pathlib import Path

from ...graph import Graph
from ...layers import WorkloadError
from ...texts import whole_number
from ..registry import Frontend
from .network import Network
from .read import read_network

HOST_OPS = "host-ops"
"""Behind the name of a file: `--host-ops`."""


def is_model_file(text: str) -> bool:
    """Whether a workload is an ONNX file, with sizes behind it or without."""
    return Path(text.partition(",")[0]).suffix.lower() == ".onnx"


def file_and_sizes(text: str) -> tuple[Path, dict[str, int], bool]:
    """Of FILE.onnx,NAME=N,...: the file, sizes of it, and whether `HOST_OPS` is among them; raises `WorkloadError`."""
    name, _, options = text.partition(",")
    sizes: dict[str, int] = {}
    items = list(filter(None, options.split(",")))
    for item in (each for each in items if each != HOST_OPS):
        # Names of sizes may hold anything but these two letters.
        key, _, digits = item.rpartition("=")
        number = whole_number(digits)
        if not key or not number:
            raise WorkloadError(f"{text}: {item!r} is not NAME=N with N of at least 1")
        if key in sizes:
            raise WorkloadError(f"{text}: {key} is given more than once")
        sizes[key] = number
    return Path(name), sizes, HOST_OPS in items


def load_network(text: str) -> Network:
    """The network of FILE.onnx, or of FILE.onnx,NAME=N,... with sizes that the file leaves open; raises `WorkloadError`.

    ``HOST_OPS`` among them: what is not taken is left to the host.
    """
    path, sizes, host_ops = file_and_sizes(text)
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise WorkloadError(f"{path} cannot be read: {error.strerror}") from error
    return _read(path, changed, tuple(sizes.items()), host_ops)


@functools.lru_cache(maxsize=2)
def _read(path: Path, changed: int, sizes: tuple[tuple[str, int], ...], host_ops: bool) -> Network:
    return read_network(path, dict(sizes), host_ops=host_ops)


class ModelFiles(Frontend):
    """Paths that end in .onnx."""

    forms = ("FILE.onnx",)

    def recognises(self, text: str) -> bool:
        return is_model_file(text)

    def load(self, text: str) -> Graph:
        return load_network(text).graph
