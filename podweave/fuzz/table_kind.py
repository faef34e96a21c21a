"""Random tables of layers, in RTL."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from podweave.ir.layers import WorkloadError

from ..runs.chip import ChipWay
from ..runs.jobs import Job, chip_jobs
from .case import Outcome, describe
from .choices import Choices
from .graph_kinds import number, random_start, run_graphs
from .random_files import quantised_file
from .surroundings import CHIPS, EVEN, accelerator_bench, chip_bench


def run_onnx(rng: Choices, seed: int, outcome: Outcome) -> None:
    """Files as onnxruntime quantises random networks: each layer on its inputs beside onnxruntime, then whole, from memory."""
    start = random_start(rng)
    jobs: list[Job] = []
    with tempfile.TemporaryDirectory(prefix="podweave-fuzz-") as name:
        for _ in rng.several(1, 5):
            data, integer = number(rng), bool(rng.integers(0, 4) == 3)
            ways: dict[str, Any] = {
                "unsigned": bool(rng.integers(0, 2)),
                "per_channel": bool(rng.integers(0, 2)),
                "integer": integer,
            }
            ways |= {"symmetric": bool(not integer and rng.integers(0, 4) == 3), "borders": bool(rng.integers(0, 2))}
            sizes: dict[str, Any] = {"size": 5 + int(rng.integers(0, 5)), "channels": 1 + int(rng.integers(0, 3))}
            file = quantised_file(Path(name), data, rng=rng, functions=True, **ways, **sizes)
            network = read_network(file)
            right, _, _ = file_tensors(network, file, random_inputs(network, data))
            for row in compare_layers(network, network.constants, right, "half_even"):
                outcome.add(compared=row["values"], ties=row["ties"])
                if row["differing"] != row["ties"]:
                    unlike = row["differing"] - row["ties"]
                    outcome.failed("onnxruntime", f"{row['operation']}: {unlike} values are not those of onnxruntime, and no ties")
            jobs.append(file_job(network, EVEN, data))
    outcome.text = describe([job.graph for job in jobs], config=EVEN.name, **start)
    run_graphs(jobs, AcceleratorWay(EVEN, check="always", **start), accelerator_bench(EVEN), seed, outcome)


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
        for index in rng.several(2, 6):
            file = Path(name) / f"table{index}.csv"
            texts.append(random_table(rng))
            file.write_text(texts[-1], encoding="utf-8", newline="")
            try:
                jobs += list(_jobs(file, way, number(rng), config.scale_bits))
            except WorkloadError as error:
                outcome.refused(str(error))
    outcome.text = "\n".join([describe([], config=config.name, way=way), *map(repr, texts)])
    run_graphs(jobs, ChipWay(config, check="always"), chip_bench(config), seed, outcome)


def _jobs(file: Path, way: str, seed: int, scale_bits: int) -> Iterator[Job]:
    yield from chip_jobs(str(file), seed, per_layer=way == "per_layer", alone=way == "alone", scale_bits=scale_bits)
