"""Workloads by name: one layer, a network that comes with podweave, or a CSV file of layers."""

from __future__ import annotations

import csv
from pathlib import Path

from ..layers import CONV_FORM, GEMM_FORM, Layer, WorkloadError, gemm, parse_workload

DIRECTORY = Path(__file__).with_name("workloads")
_COLUMNS = ["layer", "M", "K", "N"]


def network_names() -> list[str]:
    return sorted(path.stem for path in DIRECTORY.glob("*.csv"))


def read_layers(path: Path) -> list[Layer]:
    """Layers of a CSV file with the columns layer, M, K, N; lines that begin with # are comments."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise WorkloadError(f"{path}: {error}") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    reader = csv.reader(lines)
    header = next(reader, None)
    if header != _COLUMNS:
        raise WorkloadError(f"{path}: the first row must be {','.join(_COLUMNS)}, got {','.join(header or [])!r}")
    layers = []
    for number, row in enumerate(reader, start=1):
        if len(row) != len(_COLUMNS) or not all(cell.isdigit() for cell in row[1:]):
            raise WorkloadError(f"{path}: layer {number} must be a name and three whole numbers, got {','.join(row)!r}")
        layers.append(gemm(*(int(cell) for cell in row[1:]), name=row[0]))
    if not layers:
        raise WorkloadError(f"{path}: no layers")
    return layers


def load_workload(text: str) -> list[Layer]:
    """The layers that a workload names: ``gemm:...``, ``conv:...``, NETWORK, NETWORK/LAYER, or a path that ends in .csv."""
    if text.startswith(("gemm:", "conv:")):
        return [parse_workload(text)]
    if text.endswith(".csv"):
        path = Path(text)
        if not path.is_file():
            raise WorkloadError(f"workload file {text!r} does not exist")
        return read_layers(path)
    network, _, wanted = text.partition("/")
    if network not in network_names():
        raise WorkloadError(
            f"workload {text!r} is none of {GEMM_FORM}, {CONV_FORM}, a network ({', '.join(network_names())}), "
            "NETWORK/LAYER, or a path that ends in .csv"
        )
    layers = read_layers(DIRECTORY / f"{network}.csv")
    if wanted:
        layers = [layer for layer in layers if layer.name == wanted]
        if not layers:
            raise WorkloadError(f"network {network} has no layer {wanted!r}")
    return layers
