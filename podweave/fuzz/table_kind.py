"""Random tables of layers, in RTL."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from podweave.ir.layers import WorkloadError

from ..runs.chip import ChipWay
from ..runs.jobs import Job, chip_jobs
from .case import Outcome, describe
from .choices import Choices
from .graph_kinds import number, run_graphs
from .surroundings import CHIPS, chip_bench, random_checking

_CONVOLUTIONS = "Layer name,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,Strides"
_NAMES = ("conv", "Conv2D ", "fc-", "stage1/block", "größe", "x_dw")


def random_table(rng: Choices) -> str:
    """The text of a table of GEMMs or of convolutions as SCALE-Sim lists them, written as some spreadsheet writes it."""
    separator, ending = rng.choice([",", ";", "\t"]), rng.choice(["\n", "\r\n"])
    convolutions = bool(rng.integers(0, 2))
    header = _CONVOLUTIONS if convolutions else "layer,M,K,N"
    lines = [header.split(",")]
    for index in rng.several(1, 6):
        cells = [f"{rng.choice(_NAMES)}{index}"]
        if convolutions:
            kernel = [1 + int(rng.integers(0, 4)) for _ in range(2)]
            cells += [str(size + int(rng.integers(0, 9))) for size in kernel]
            cells += [*map(str, kernel), str(1 + int(rng.integers(0, 12))), str(1 + int(rng.integers(0, 12)))]
            cells.append(str(1 + int(rng.integers(0, 3))))
        else:
            cells += [str(1 + int(rng.integers(0, 40))) for _ in range(3)]
        lines.append([f'"{cell}"' if rng.integers(0, 6) == 5 else cell for cell in cells])
    text = ""
    for line in lines:
        text += rng.choice(["", "", "", ending, f"# a note{ending}"])
        text += separator.join(
            f" {cell} " if separator != "\t" and '"' not in cell and rng.integers(0, 8) == 7 else cell for cell in line
        )
        text += rng.choice(["", "", separator]) + ending
    return rng.choice(["", "", "\ufeff"]) + text


def run_csv(rng: Choices, seed: int, outcome: Outcome) -> None:
    """Tables of layers: whole, layer by layer, and each layer alone."""
    config = CHIPS[rng.choice(list(CHIPS))]
    way = str(rng.choice(["whole", "per_layer", "alone"]))
    texts, jobs = [], []
    with tempfile.TemporaryDirectory(prefix="podweave-fuzz-") as name:
        for index in rng.several(6, 21):
            file = Path(name) / f"table{index}.csv"
            texts.append(random_table(rng))
            file.write_text(texts[-1], encoding="utf-8", newline="")
            try:
                jobs += list(_jobs(file, way, number(rng), config.scale_bits))
            except WorkloadError as error:
                outcome.refused(str(error))
    outcome.text = "\n".join([describe([], config=config.name, way=way), *map(repr, texts)])
    run_graphs(jobs, ChipWay(config, check="always"), chip_bench(config, random_checking(rng)), seed, outcome)


def _jobs(file: Path, way: str, seed: int, scale_bits: int) -> Iterator[Job]:
    yield from chip_jobs(str(file), seed, per_layer=way == "per_layer", alone=way == "alone", scale_bits=scale_bits)
