"""Random configurations: what is legal is emitted, linted, built, and runs small networks exactly."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from podweave.ir.constants import with_scale_bits, without_zero_points
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer
from podweave.ir.operations import Linear, Operand
from podweave.ir.partition import partition
from podweave.spec.config import ChipConfig
from podweave.tb.benches.accelerator_bench import AcceleratorBench
from podweave.tb.benches.chip_bench import ChipBench
from podweave.tb.benches.system_bench import SystemBench
from podweave.tb.build.emission import emitted_design
from podweave.tb.build.lint import lint

from ..runs.accelerator import AcceleratorWay
from ..runs.chip import ChipWay
from ..runs.jobs import Job, chip_jobs
from ..runs.system import SystemWay
from .case import Outcome, describe
from .choices import Choices
from .graph_kinds import number, random_decoder, random_start, run_graphs
from .random_configs import random_config
from .random_layers import GrowingGraph, random_job, with_data
from .random_rows import random_rows
from .surroundings import random_link

MANY_PODS = 8
"""From so many on, it takes less time to build pods once, block by block, than the whole plain Verilog."""
Graphs = list[Job]


def run_config(rng: Choices, seed: int, outcome: Outcome) -> None:
    """Emit, lint, build and run one: also the smallest runs something."""
    config = random_config(rng)
    if ChipConfig.from_toml(config.to_toml()) != config:
        outcome.failed("toml", "what is written as TOML is not read as it was")
    outcome.text = config.to_toml()
    # Now and then in the way that takes longer.
    plain = (config.pods < MANY_PODS) != (rng.integers(0, 12) == 11)
    built: dict[str, Any] = {"optimize": "none", "plain": plain, "random_initial_state": True}
    # As benches find it again.
    emitted = emitted_design(config, top="chip" if config.prefetch is None else None)
    with tempfile.TemporaryDirectory(prefix="podweave-fuzz-") as name:
        top = emitted.sidecar["top"]
        for ending, text in (("vlt", emitted.control), ("v", emitted.verilog)):
            Path(name, f"{top}.{ending}").write_text(text, encoding="utf-8")
        code, said = lint(Path(name), [f"{top}.vlt", f"{top}.v"], top)
        if code or said:
            outcome.failed("lint", said.strip()[:2000])
    outcome.add(configurations=1)
    jobs = [_fitted(each, config) for each in (_least(), _small(rng), random_job(number(rng), rng))]
    _run(rng, config, jobs, built, seed, outcome)
    if not outcome.has_run:
        outcome.failed("unfit", f"it does not even run one product of two numbers: {outcome.sentence}")


def _run(rng: Choices, config: ChipConfig, jobs: list[Job], built: dict[str, Any], seed: int, outcome: Outcome) -> None:
    if config.prefetch is None:
        outcome.text += describe([job.graph for job in jobs])
        run_graphs(jobs, ChipWay(config, check="always"), ChipBench.of(config, **built), seed, outcome)
        return
    start = random_start(rng)
    if config.has_rows:
        jobs = [*jobs[:2], _fitted(random_rows(number(rng), rng), config), _fitted(random_rows(number(rng), rng), config)]
    outcome.text += describe([job.graph for job in jobs], **start)
    run_graphs(jobs, AcceleratorWay(config, check="always", **start), AcceleratorBench.of(config, **built), seed, outcome)
    if config.links and config.has_rows:
        link, shared = random_link(rng), chip_jobs(random_decoder(rng, 2), number(rng), scale_bits=config.scale_bits)
        outcome.text += "\n" + describe([job.graph for job in shared], chips=2, link=link)
        way = SystemWay(config, 2, link=link, divide=partition, check="always", **start)
        run_graphs(shared, way, SystemBench.of(config, 2, **built), seed, outcome, lambda network: network.chips)


def _least() -> Job:
    """What every chip can run."""
    layer = Layer(name="product", height=1, width=1, channels=1, outputs=1)
    return with_data(Graph("least", {"number": (1, 1, 1, 1)}, (Linear("product", (Operand(("number",), layer),)),)), 1)


def _small(rng: Choices) -> Job:
    """Two layers of a small image: what nearly every chip can run."""
    growing = GrowingGraph(rng, size=2)
    growing.kinds = ["1x1", "3x3"]
    for _ in range(2):
        growing.grow()
    return with_data(growing.graph("small"), number(rng))


def _fitted(job: Job, config: ChipConfig) -> Job:
    constants = job.constants if config.post.zero_points else without_zero_points(job.constants)
    return Job(job.graph, with_scale_bits(constants, config.scale_bits), job.inputs)
