"""Random networks of ONNX files, as onnxruntime quantises them, and what is held of each layer beside onnxruntime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from podweave.fuzz.random_attention import attending_file
from podweave.fuzz.random_files import PIECES, quantised_file
from podweave.ir.constants import Parameters
from podweave.ir.frontends.onnx import Network, read_network
from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.model_files import file_job, random_inputs
from podweave.runs.oracle import compare_layers, file_tensors
from podweave.runs.road import Simulation, run_jobs
from podweave.spec.config import ChipConfig
from podweave.spec.presets import load_config
from tests.podweave.runs.even_chips import GATED

EXACT = load_config("chip4x16").replace(
    name="even4x16", rounding="half_even", scale_bits=24, sum_bits=33, zero_points=True, tables=8
)
WIDE = EXACT.replace(name="gated4x16", rows=16, cols=16, group_rows=16, group_cols=16, row_registers=16, tables=4)
TOGETHER = 25
"""Seeds that run on one chip, one after the other."""
_CHIPS = ((GATED, 5), (WIDE, 7))


def chip_of(seed: int) -> tuple[Any, int]:
    """The chip on which the network of a seed runs in RTL, and the height of its images."""
    return _CHIPS[seed // TOGETHER % len(_CHIPS)]


def random_network(folder: Path, seed: int, **options: Any) -> tuple[Network, Path]:
    """Activations of int8 and uint8, scales per tensor and per channel, with zero points and now and then without; both formats.

    Of all pieces, three are in it whatever is drawn, others for each seed; or it is of those that ``options`` say.
    """
    integer = seed % 4 == 3
    if "among" not in options:
        names = sorted(PIECES)
        # Each time round, by seeds of other formats.
        first = 3 * seed + 3 * (3 * seed // len(names))
        options = {"surely": [names[(first + number) % len(names)] for number in range(3)], **options}
    options = {"size": chip_of(seed)[1], "channels": 2 + seed // 8 % 2, **options}
    ways = {"unsigned": seed % 2 == 1, "per_channel": seed // 2 % 2 == 1, "symmetric": seed % 5 == 0 and not integer}
    file = quantised_file(folder, seed, integer=integer, **ways, **options)
    return read_network(file), file


def attending_network(folder: Path, seed: int) -> tuple[Network, Path]:
    """The same of a network with attention, with operators on real numbers."""
    ways = {"unsigned": seed % 2 == 1, "per_channel": seed // 2 % 2 == 1, "symmetric": seed % 5 == 0}
    file = attending_file(folder, seed, size=5 + seed // 4 % 3, channels=1 + seed // 8 % 3, **ways)
    return read_network(file), file


def compared(network: Network, file: Path, seed: int, constants: dict[str, Parameters] | None = None) -> list[dict[str, Any]]:
    right, _, _ = file_tensors(network, file, random_inputs(network, seed))
    return compare_layers(network, constants or network.constants, right, "half_even")


@dataclass
class Found:
    """Over networks. By operator: results, those that are ties, and those of norms and attention that are within their bounds;
    the largest difference of any; how often each stands in files."""

    values: Counter[str] = field(default_factory=Counter)
    ties: Counter[str] = field(default_factory=Counter)
    within: Counter[str] = field(default_factory=Counter)
    largest: Counter[str] = field(default_factory=Counter)
    nodes: Counter[str] = field(default_factory=Counter)

    def hold(self, network: Network, rows: list[dict[str, Any]]) -> None:
        """Every result is that of onnxruntime, but for ties of one step; normalised responses, norms and attention are within their
        bounds."""
        for row in rows:
            if row["operator"] == "LRN":
                assert row["largest"] <= network.bounds[row["operation"]] + 1, row
            else:
                assert row["differing"] == row["ties"] + row["within"], row
            self.values[row["operator"]] += row["values"]
            self.ties[row["operator"]] += row["differing"] - row["within"]
            self.within[row["operator"]] += row["within"]
            self.largest[row["operator"]] = max(self.largest[row["operator"]], row["largest"])

    def told(self) -> str:
        """Results and ties of all operators, and of those that have ties."""
        some = ", ".join(f"{name} {ties} of {self.values[name]:,}" for name, ties in self.ties.most_common() if ties)
        near = ", ".join(f"{name} {count}, by up to {self.largest[name]}" for name, count in self.within.items() if count)
        told = f"{self.ties.total():,} ties of {self.values.total():,} results of {self.nodes.total():,} nodes: {some}"
        return told + (f"; within bounds of rows: {near}" if near else "")


def exact_in_rtl(networks: Sequence[Network], config: ChipConfig, seeds: Sequence[int]) -> None:
    """Bit for bit, and in the predicted cycles, from memory; most of what leaves is no single number."""
    jobs = [file_job(network, config, seed) for network, seed in zip(networks, seeds, strict=True)]
    report, outputs, _ = run_jobs(jobs, AcceleratorWay(config, check="always"), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", [row.get("first_mismatch") for row in report["networks"]]
    assert report["cycles"] == report["predicted_cycles"]
    values = sum(values.size for found in outputs for values in found.values())
    print(f"{len(jobs)} networks on {config.name}: {report['cycles']:,} cycles, as predicted; {values:,} results")
    assert sum(len(np.unique(next(iter(found.values())))) > 2 for found in outputs) > len(jobs) // 2
