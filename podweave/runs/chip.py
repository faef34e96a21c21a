"""Networks on a chip, each as one epoch whose words are there when it starts; accumulators of every operation are compared."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.chip.bank_image import accumulators, needed_accumulators, outputs, parameter_image, w_image, x_image
from podweave.compiler.chip.bank_words import zero_word
from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.compile_network import CheckRules, CompiledNetwork, CompileOptions, compile_network
from podweave.golden.cycle.chip.chip import ChipFigures
from podweave.golden.graph import evaluate, evaluate_operation
from podweave.ir.graph import Graph
from podweave.predict.chip import predict
from podweave.spec.config import ChipConfig
from podweave.tb.benches.chip_bench import ChipBench
from podweave.tb.benches.chip_task import EpochResult, Readback, SimpleEpoch
from podweave.tb.build.simulate import SimulationError

from .figures import layer_rows, total
from .jobs import Job
from .kept_networks import compile_kept
from .road import COLD, Conditions, Progress, Simulated, Simulation, Tensors, Way, run_jobs
from .verdict import Comparison


class ChipWay(Way[CompiledNetwork]):
    """``through``: "backdoor" loads and reads banks in no simulated time, "port" word by word through the load ports."""

    def __init__(self, config: ChipConfig, through: str = "backdoor", partition: int | None = None, check: CheckRules = "auto"):
        super().__init__(config, CompileOptions(partition=partition, check=check))
        self.through = through

    def compile(self, job: Job, progress: Progress) -> CompiledNetwork:
        return compile_kept(job.graph, self.config, job.constants, self.options, progress=progress)

    def predict(self, network: CompiledNetwork, conditions: Conditions = COLD) -> ChipFigures:
        return predict(network.program)

    def bench(self, networks: Sequence[CompiledNetwork], options: dict[str, Any]) -> ChipBench:
        return ChipBench.of(self.config, **options)

    def simulate(
        self,
        bench: ChipBench,
        jobs: Sequence[Job],
        networks: Sequence[CompiledNetwork],
        predictions: Sequence[ChipFigures],
        simulation: Simulation,
        progress: Progress,
    ) -> Simulated:
        try:
            run = bench.run(
                [epoch_of(network, job) for network, job in zip(networks, jobs, strict=True)],
                limits=[predicted.cycles + 4096 for predicted in predictions],
                readback=[_regions(network.program) for network in networks],
                through=self.through,
                seed=simulation.seed,
                waves=simulation.waves,
                progress=progress,
            )
        except SimulationError as error:
            return Simulated(failure=error)
        return Simulated(list(run.epochs), run.simulated_cycles, run.wall_s, run.peak_bytes)

    def compare(
        self, job: Job, network: CompiledNetwork, prediction: ChipFigures, result: EpochResult
    ) -> tuple[dict[str, Any], Tensors]:
        program = network.program
        found = Comparison(result.cycles, prediction.cycles, errors=result.errors, finished=result.finished)
        sums, needed = accumulators(program, _banks(program, result, "P")), needed_accumulators(program)
        stored = outputs(program, _banks(program, result, "X"))
        # Accumulators are those of the graph as it runs; outputs are held against the graph as it was asked for.
        expected = evaluate(job.graph, job.constants, job.inputs, self.config.rounding)
        tensors: dict[str, NDArray[np.int8]] = dict(job.inputs)
        layers, rounding = layer_rows(program), self.config.rounding
        assert network.constants is not None
        added = {operation.adds_to for operation in program.graph.operations}
        before: dict[str, NDArray[np.int32]] = {}
        for operation, row in zip(program.graph.operations, layers, strict=True):
            held = network.constants[operation.name]
            acc, tensor = evaluate_operation(operation, held, tensors, rounding, before.get(operation.adds_to))
            if operation.name in added:
                # Others have added to its sums by now.
                before[operation.name], row["mismatches"] = acc, 0
                continue
            tensors[operation.name] = tensor
            row["mismatches"] = found.values(f"accumulators of {operation.name}", acc, sums[operation.name], needed[operation.name])
            if operation.name in stored:
                row["mismatches"] += found.values(f"outputs of {operation.name}", expected[operation.name], stored[operation.name])
        found.counters(prediction.counters, result.counters)
        row = {"network": job.graph.name, **total(network, prediction), **found.row(), "layers": layers}
        row["utilization"] = job.graph.macs / (result.cycles * self.config.pods * self.config.array.multipliers)
        return row, stored

    def facts(self) -> dict[str, Any]:
        return {"through": self.through}


def model_networks(
    graphs: Sequence[Graph],
    config: ChipConfig,
    *,
    partition: int | None = None,
    keep: bool = True,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[CompiledNetwork]]:
    """Compile networks and predict what each takes, one epoch each. ``keep``: programs are kept, or were (`compile_kept`)."""
    way, rows, networks = ChipWay(config, partition=partition), [], []
    wall = {"compile": 0.0, "model": 0.0}
    for graph in graphs:
        began = time.perf_counter()
        network = (compile_kept if keep else compile_network)(graph, config, options=way.options, progress=progress)
        compiled = time.perf_counter()
        figures = way.predict(network)
        rows.append({"network": graph.name, **total(network, figures), "layers": layer_rows(network.program)})
        wall["model"] += time.perf_counter() - compiled
        wall["compile"] += compiled - began
        networks.append(network)
    report: dict[str, Any] = {"config": config.name, "pods": config.pods, "networks": rows}
    report |= {key: sum(row[key] for row in rows) for key in ("cycles", "macs")}
    report["utilization"] = report["macs"] / (report["cycles"] * config.pods * config.array.multipliers)
    return report | {"wall_s": wall}, networks


def model_network(
    graph: Graph, config: ChipConfig, *, partition: int | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """The figures of one network, compiled now: the only row of `model_networks`."""
    report, _ = model_networks([graph], config, partition=partition, keep=False, progress=progress)
    return {"config": config.name, "pods": config.pods, **report["networks"][0], "wall_s": report["wall_s"]}


def run_networks(
    jobs: Sequence[Job],
    config: ChipConfig,
    *,
    through: str = "backdoor",
    partition: int | None = None,
    check: CheckRules = "auto",
    progress: Progress,
    **simulation: Any,
) -> tuple[dict[str, Any], list[Tensors], list[CompiledNetwork]]:
    """`run_jobs` on a chip. ``simulation``: members of a `Simulation`."""
    return run_jobs(jobs, ChipWay(config, through, partition, check), Simulation(**simulation), progress)


def epoch_of(network: CompiledNetwork, job: Job) -> SimpleEpoch:
    """What the bench loads and runs."""
    program, constants = network.program, network.constants
    assert constants is not None
    return SimpleEpoch(
        loads=program.loads,
        streams=program.streams,
        posts=program.posts,
        x_image=[(place.bank, place.base, words) for place, words in x_image(program, job.inputs)],
        w_image=[(place.bank, place.base, words) for place, words in w_image(program, constants)],
        zero_words=[zero_word(program.config)],
        parameters=list(parameter_image(program, constants)),
        tables=list(enumerate(constants.tables)),
    )


def _regions(program: EpochProgram) -> list[Readback]:
    """The words of all banks that hold results, from the first on."""
    memory, regions = program.config.memory, []
    for kind, items in (("P", program.accumulated), ("X", program.stored)):
        used = np.zeros(memory.banks, np.int64)
        for item in items:
            size = int(np.prod([end - begin for begin, end in item.box]))
            used[item.place.bank] = max(used[item.place.bank], item.place.base + size)
        regions += [Readback(kind, bank, 0, int(words)) for bank, words in enumerate(used) if words]
    return regions


def _banks(program: EpochProgram, result: EpochResult, kind: str) -> NDArray[Any]:
    config = program.config
    words, lanes, dtype = {
        "P": (config.memory.p_words, config.array.cols, np.int32),
        "X": (config.memory.x_words, config.array.rows, np.int8),
    }[kind]
    banks = np.zeros((config.memory.banks, words, lanes), dtype)
    for region, content in zip(_regions(program), result.readback, strict=True):
        if region.kind == kind:
            banks[region.bank, region.base : region.base + region.words] = content
    return banks
