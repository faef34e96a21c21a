"""Networks on a chip: compiled, modelled, run in RTL, and held against the golden models."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.chip.bank_image import (
    accumulators,
    needed_accumulators,
    outputs,
    parameter_image,
    w_image,
    x_image,
)
from podweave.compiler.chip.bank_words import zero_word
from podweave.compiler.chip.epoch_program import ChipProgram
from podweave.compiler.compile_network import compile_network
from podweave.golden.cycle.chip.chip import ChipFigures
from podweave.golden.graph import evaluate_node
from podweave.ir.graph import Graph
from podweave.predict.chip import predict
from podweave.spec.config import ChipConfig
from podweave.tb.benches.chip_bench import ChipBench
from podweave.tb.benches.chip_task import ChipEpoch, EpochResult, Readback, SimpleEpoch
from podweave.tb.build.simulate import SimulationError, verdict

from .figures import layer_rows, total
from .jobs import Job

Progress = Callable[[str], None]


def model_networks(
    graphs: Sequence[Graph], config: ChipConfig, *, partition: int | None = None, progress: Progress | None = None
) -> tuple[dict[str, Any], list[ChipProgram]]:
    """Compile networks and predict what each takes, one epoch each."""
    rows, programs = [], []
    wall = {"compile": 0.0, "model": 0.0}
    for graph in graphs:
        began = time.perf_counter()
        program, _ = compile_network(graph, config, partition=partition, progress=progress)
        compiled = time.perf_counter()
        figures = predict(program)
        rows.append({"network": graph.name, **total(program, figures), "layers": layer_rows(program)})
        wall["model"] += time.perf_counter() - compiled
        wall["compile"] += compiled - began
        programs.append(program)
    report: dict[str, Any] = {"config": config.name, "pods": config.pods, "networks": rows}
    report |= {key: sum(row[key] for row in rows) for key in ("cycles", "macs")}
    report["utilization"] = report["macs"] / (report["cycles"] * config.pods * config.array.multipliers)
    return report | {"wall_s": wall}, programs


def model_network(
    graph: Graph, config: ChipConfig, *, partition: int | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """The figures of one network: the only row of `model_networks`."""
    report, _ = model_networks([graph], config, partition=partition, progress=progress)
    return {"config": config.name, "pods": config.pods, **report["networks"][0], "wall_s": report["wall_s"]}


def run_networks(
    jobs: Sequence[Job],
    config: ChipConfig,
    *,
    host: str = "backdoor",
    seed: int = 0,
    partition: int | None = None,
    waves: Path | None = None,
    bench: ChipBench | None = None,
    progress: Progress,
) -> tuple[dict[str, Any], list[dict[str, NDArray[np.int8]]], list[ChipProgram]]:
    """Compile networks, run each as one epoch in RTL, and compare accumulators, outputs, cycles and counters.

    Returns the report, the outputs that came out of the RTL, and the programs.

    ``host``: "backdoor" loads and reads banks in no simulated time, "port" word by word through the host port. ``bench``: a
    simulator of ``config`` that is there; else one is built for speed.
    """
    clock = time.perf_counter
    began = clock()
    programs: dict[int, tuple[ChipProgram, list[NDArray[np.int8]]]] = {}
    for job in jobs:
        # Batches of one network share its program.
        if id(job.graph) not in programs:
            programs[id(job.graph)] = compile_network(job.graph, config, job.parameters, partition=partition, progress=progress)
    compiled = [programs[id(job.graph)] for job in jobs]
    wall = {"compile": clock() - began}
    began = clock()
    figures = [predict(program) for program, _ in compiled]
    epochs: list[ChipEpoch] = [epoch_of(program, job, tables) for (program, tables), job in zip(compiled, jobs, strict=True)]
    wall["model"] = clock() - began
    if bench is None:
        progress("emitting Verilog")
        bench = ChipBench.of(config, waves=waves is not None, progress=progress)
    wall |= {"emit": bench.emit_seconds, "build": bench.build.seconds}
    progress("simulating")
    failure: SimulationError | None = None
    results = []
    try:
        run = bench.run(
            epochs,
            limits=[predicted.cycles + 4096 for predicted in figures],
            readback=[_regions(program) for program, _ in compiled],
            host=host,
            seed=seed,
            waves=waves,
            progress=progress,
        )
        results = run.epochs
        wall |= run.wall_s
    except SimulationError as error:
        failure = error
    began = clock()
    rows, found = [], []
    for job, (program, _), predicted, result in zip(jobs, compiled, figures, results, strict=False):
        progress(f"comparing {job.graph.name} with the golden model")
        row, tensors = _verdict(job, program, predicted, result)
        rows.append(row)
        found.append(tensors)
    wall["check"] = clock() - began
    report: dict[str, Any] = {"config": config.name, "pods": config.pods, "seed": seed, "host": host}
    reached = verdict([row["verdict"] for row in rows], len(jobs), failure)
    report |= {"verdict": reached, "failure": failure and str(failure), "networks": rows}
    if rows:
        report |= {key: sum(row[key] for row in rows) for key in ("mismatches", "cycles", "predicted_cycles", "macs")}
        report["utilization"] = report["macs"] / (report["cycles"] * config.pods * config.array.multipliers)
        report["sim_cycles_per_s"] = run.simulated_cycles / wall["simulate"]
    report["wall_s"] = wall
    return report, found, [program for program, _ in compiled]


def epoch_of(program: ChipProgram, job: Job, tables: Sequence[NDArray[np.int8]]) -> SimpleEpoch:
    """What the bench loads and runs."""
    return SimpleEpoch(
        loads=program.loads,
        streams=program.streams,
        posts=program.posts,
        x_image=[(place.bank, place.base, words) for place, words in x_image(program, job.inputs)],
        w_image=[(place.bank, place.base, words) for place, words in w_image(program, job.parameters)],
        zero_words=[zero_word(program.config)],
        parameters=[
            (bank, index, bias, multiplier.astype(np.int64), shift.astype(np.int64))
            for bank, index, bias, multiplier, shift in parameter_image(program, job.parameters)
        ],
        tables=list(enumerate(tables)),
    )


def _regions(program: ChipProgram) -> list[Readback]:
    """The words of all banks that hold results, from the first on."""
    memory, regions = program.config.memory, []
    for kind, items in (("P", program.accumulated), ("X", program.stored)):
        used = np.zeros(memory.banks, np.int64)
        for item in items:
            size = int(np.prod([end - begin for begin, end in item.box]))
            used[item.place.bank] = max(used[item.place.bank], item.place.base + size)
        regions += [Readback(kind, bank, 0, int(words)) for bank, words in enumerate(used) if words]
    return regions


def _banks(program: ChipProgram, result: EpochResult, kind: str) -> NDArray[Any]:
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


def _verdict(
    job: Job, program: ChipProgram, predicted: ChipFigures, result: EpochResult
) -> tuple[dict[str, Any], dict[str, NDArray[np.int8]]]:
    graph, config = program.graph, program.config
    sums = accumulators(program, _banks(program, result, "P"))
    needed = needed_accumulators(program)
    found = outputs(program, _banks(program, result, "X"))
    tensors: dict[str, NDArray[np.int8]] = dict(job.inputs)
    layers, first = layer_rows(program), None
    mismatches = compared = 0
    for node, row in zip(graph.nodes, layers, strict=True):
        expected, tensors[node.name] = evaluate_node(node, job.parameters[node.name], tensors)
        wrong = (expected != sums[node.name]) & needed[node.name][..., None]
        row["mismatches"] = int(wrong.sum())
        compared += int(needed[node.name].sum()) * node.output[3]
        if row["mismatches"] and first is None:
            first = _describe(f"accumulators of {node.name}", wrong, expected, sums[node.name])
        if node.name in found:
            output = found[node.name]
            wrong = output != tensors[node.name]
            row["mismatches"] += int(wrong.sum())
            compared += wrong.size
            if wrong.any() and first is None:
                first = _describe(f"outputs of {node.name}", wrong, tensors[node.name], output)
        mismatches += row["mismatches"]
    counters = {name: int((values != result.counters[name]).sum()) for name, values in predicted.counters.items()}
    differing = [name for name, count in counters.items() if count]
    exact = not mismatches and not result.errors and not differing and result.cycles == predicted.cycles and result.finished
    row = {
        "network": graph.name,
        "verdict": "pass" if exact else "fail",
        "mismatches": mismatches,
        "compared": compared,
        **total(program, predicted),
        "cycles": result.cycles,
        "predicted_cycles": predicted.cycles,
        "counters_differing": differing,
        "errors": result.errors,
        "finished": result.finished,
        "layers": layers,
    }
    row["utilization"] = graph.macs / (result.cycles * config.pods * config.array.multipliers)
    if first:
        row["first_mismatch"] = first
    return row, found


def _describe(what: str, wrong: NDArray[np.bool_], expected: NDArray, got: NDArray) -> str:
    at = tuple(np.argwhere(wrong)[0].tolist())
    where = ", ".join(f"{axis} {i}" for axis, i in zip(("image", "row", "column", "channel"), at, strict=True))
    return f"{what}, {where}: expected {expected[at]}, got {got[at]}"
