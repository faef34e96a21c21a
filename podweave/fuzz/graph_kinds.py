"""Random graphs in RTL: on chips, on accelerators from memory, with operations on rows, and on chips in rings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from podweave.compiler.compile_network import CompiledNetwork
from podweave.ir.constants import with_scale_bits
from podweave.ir.layers import WorkloadError
from podweave.ir.partition import partition
from podweave.ir.partition_rows import partition_rows
from podweave.spec.config import ChipConfig

from ..runs.accelerator import AcceleratorWay
from ..runs.chip import ChipWay
from ..runs.jobs import Job, chip_jobs
from ..runs.road import Network, Simulation, Way, run_jobs
from ..runs.system import SystemNetwork, SystemWay
from .case import Outcome, count_network, describe, hold_report
from .choices import Choices
from .random_large import cut_job
from .random_layers import parts_job, random_job, upsampled_job
from .random_mixed import random_mixed
from .random_rows import random_rows
from .random_sequences import random_sequences
from .random_sums import sums_job
from .random_views import views_job
from .surroundings import (
    ACCELERATORS,
    CHIPS,
    LINKED,
    ROW_CHIPS,
    accelerator_bench,
    chip_bench,
    random_checking,
    random_link,
    random_timing,
    system_bench,
)

Make = Callable[[int, Choices], Job]
NETWORKS = 12, 41
"""Of a case, from and below: a simulator takes a second to start, and a network a tenth of one."""


def quiet(_: str) -> None:
    """No progress."""


def number(rng: Choices) -> int:
    """A seed of numbers that decide nothing."""
    return int(rng.integers(0, 1 << 31))


def jobs_of(rng: Choices, makers: Sequence[Make], config: ChipConfig) -> list[Job]:
    """Some random networks, each made by one of the ``makers``, with multipliers as the configuration has them."""
    found = []
    for _ in rng.several(*NETWORKS):
        make = makers[int(rng.integers(0, len(makers)))]
        job = make(number(rng), rng)
        found.append(Job(job.graph, with_scale_bits(job.constants, config.scale_bits), job.inputs))
    return found


def alone(network: Any) -> Sequence[CompiledNetwork]:
    """What one chip runs."""
    return [network]


def run_graphs(
    jobs: Sequence[Job],
    way: Way[Network],
    bench: Any,
    seed: int,
    outcome: Outcome,
    parts: Callable[[Network], Sequence[CompiledNetwork]] = alone,
) -> None:
    """Run what fits, one after the other in one simulation; ``parts``: of a network, what single chips run."""
    fitting, networks = [], []
    for job in jobs:
        try:
            networks.append(way.compile(job, quiet))
        except WorkloadError as error:
            outcome.refused(str(error))
        else:
            fitting.append(job)
    if not fitting:
        return
    for network in networks:
        for index, part in enumerate(parts(network)):
            outcome.add(**count_network(part) | {"networks": int(index == 0)})
    report, _, _ = run_jobs(fitting, way, Simulation(seed=seed, bench=bench), quiet, compiled=networks)
    outcome.ran()
    hold_report(outcome, report)


def run_chip(rng: Choices, seed: int, outcome: Outcome) -> None:
    """Networks of layers, each as one epoch; sums of every operation are compared."""
    config = CHIPS[rng.choice(list(CHIPS))]
    jobs = jobs_of(rng, (random_job, _upsampled, _parts, views_job), config)
    through = str(rng.choice(["backdoor", "port"], p=[0.9, 0.1]))
    outcome.text = describe([job.graph for job in jobs], config=config.name, through=through)
    run_graphs(jobs, ChipWay(config, through, check="always"), chip_bench(config, random_checking(rng)), seed, outcome)


def _upsampled(seed: int, rng: Choices) -> Job:
    return upsampled_job(seed, rng=rng)


def _parts(seed: int, rng: Choices) -> Job:
    return parts_job(seed, rng=rng)


def random_start(rng: Choices) -> dict[str, Any]:
    """A memory, and how engines run ahead."""
    found: dict[str, Any] = {"timing": random_timing(rng), "cap": int(rng.choice([0, 0, 1, 64, 300]))}
    ratio = float(rng.choice([1.0, 1.0, 0.5, 0.0]))
    return found | {"prefetch": bool(rng.integers(0, 5)), "prefetch_ratios": {"*": ratio} if ratio < 1 else {}}


def run_accelerator(rng: Choices, seed: int, outcome: Outcome) -> None:
    """Networks of layers from memory, over AXI; some are larger than the banks."""
    name = str(rng.choice(list(ACCELERATORS)))
    config = ACCELERATORS[name]
    start, checking = random_start(rng), random_checking(rng)
    jobs = jobs_of(rng, (random_job, _upsampled, _parts, views_job, cut_job, sums_job), config)
    outcome.text = describe([job.graph for job in jobs], config=name, **start)
    run_graphs(jobs, AcceleratorWay(config, check="always", **start), accelerator_bench(config, checking), seed, outcome)


def run_rows(rng: Choices, seed: int, outcome: Outcome) -> None:
    """Graphs of operations on rows, and of layers beside them, from memory."""
    config = ROW_CHIPS[rng.choice(list(ROW_CHIPS))]
    start, checking = random_start(rng), random_checking(rng)
    jobs = jobs_of(rng, (random_rows, random_rows, random_sequences, random_mixed), config)
    outcome.text = describe([job.graph for job in jobs], config=config.name, **start)
    run_graphs(jobs, AcceleratorWay(config, check="always", **start), accelerator_bench(config, checking), seed, outcome)


def random_decoder(rng: Choices, chips: int) -> str:
    """A workload with heads and channels that so many chips share."""
    heads, size = chips * int(rng.choice([1, 2])), 2 * (1 + int(rng.integers(0, 4)))
    group, rows = int(rng.choice([1, 2])), 1 + int(rng.integers(0, 4))
    context, hidden = rows + int(rng.integers(0, 12)), heads * group * size
    wide = chips * (1 + int(rng.integers(0, 12)))
    return str(
        rng.choice(
            [
                f"gated_{hidden}_{wide},rows={rows}",
                f"attention_{heads * group}_{heads}_{size},rows={rows},context={context}",
                f"llama_{hidden}_{heads * group}_{heads}_{wide},rows={rows},context={context}",
                f"encoder_{hidden}_{heads * group}_{wide},rows={rows}",
            ]
        )
    )


def run_chips(rng: Choices, seed: int, outcome: Outcome) -> None:
    """Graphs of rows on two to four chips in a ring, which start whenever they like."""
    chips = 2 + int(rng.integers(0, 3))
    start = random_start(rng)
    delays = [int(rng.integers(0, 3000)) if rng.integers(0, 2) else 0 for _ in range(chips)]
    by_rows = bool(rng.integers(0, 8) == 7)
    link, beneath = random_link(rng), bool(rng.integers(0, 4))
    jobs: list[Job] = []
    for _ in rng.several(4, 17):
        if rng.random() < 0.6:
            jobs += chip_jobs(random_decoder(rng, chips), number(rng), scale_bits=LINKED.scale_bits)
        else:
            make = random_sequences if rng.integers(0, 2) else random_rows
            job = make(number(rng), rng)
            jobs.append(Job(job.graph, with_scale_bits(job.constants, LINKED.scale_bits), job.inputs))
    ways: dict[str, Any] = {"link": link, "delays": delays, "beneath": beneath, **start}
    outcome.text = describe([job.graph for job in jobs], config=LINKED.name, chips=chips, by_rows=by_rows, **ways)
    way = SystemWay(LINKED, chips, divide=partition_rows if by_rows else partition, check="always", **ways)
    run_graphs(jobs, way, system_bench(LINKED, chips, random_checking(rng)), seed, outcome, _of_system)


def _of_system(network: SystemNetwork) -> Sequence[CompiledNetwork]:
    return network.chips
