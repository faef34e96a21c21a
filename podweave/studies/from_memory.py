"""Throughput with the memory in the loop: SOSA's chip with its banks, to which engines bring weights, jobs and inputs over AXI."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from podweave.compiler.chip.policy import BankPolicy
from podweave.compiler.compile_network import CompileOptions, compile_network
from podweave.compiler.plan.bound import least_bytes
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.layers import WorkloadError
from podweave.predict.accelerator import predict_accelerator
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ConfigError, PrefetchConfig

from .counts import gemms, macs, tera_ops
from .points import Changes, Figures, Point, study_config, study_graph
from .sweeps import Outcome, throughput_points
from .tables import OURS, Cell, Results, chart, hmean, sosa_tops, table

BYTES_PER_CYCLE = 1200
"""SOSA's HBM: 1.2 TB/s at 1 GHz."""
BANK_BYTES = 256 * 1024
"""Of a bank of any kind, as SOSA's."""
_MANAGERS, _WIDTH = 64, 256
"""Managers deliver a word in a cycle: fewer would not keep up with the memory, whatever the width of their buses."""
_POLICY = BankPolicy(bank_share=0.25, first_epoch_share=0.1, traffic=1.75)
"""Nothing hides what the first epoch loads; the memory is 1.75 times slower than the buses."""


def memory_config(changes: Changes) -> ChipConfig:
    """`study_config`'s chip with SOSA's banks, program stores and parameter sets of the preset ``chip256x32``, and engines."""
    fields = dict(changes)
    config = study_config(fields)
    array, managers = config.array, min(_MANAGERS, config.pods)
    held = {"x_words": BANK_BYTES // array.rows, "w_words": BANK_BYTES // array.cols, "p_words": BANK_BYTES // (4 * array.cols)}
    stores = {"load_jobs": 8192, "stream_jobs": 8192, "post_jobs": 8192, "parameter_sets": 256, "tile_width": 8}
    engines = PrefetchConfig(managers=managers, data_width=_WIDTH, buffer_beats=512, max_burst=32, outstanding=64, descriptors=16)
    # Engines store and load beside epochs, as those of the presets do.
    return replace(config.replace(**held, **stores), prefetch=engines).replace(x_parts=4)


def memory_timing(config: ChipConfig) -> HbmTiming:
    """The memory as it is by default, but for its bandwidth: as near to `BYTES_PER_CYCLE` as it may be, and not above."""
    assert config.prefetch is not None
    full = config.prefetch.managers * config.prefetch.data_width // 8
    return HbmTiming(beat_sixteenths=max(16, -(-16 * full // BYTES_PER_CYCLE)))


@dataclass(frozen=True)
class MemoryPoint(Point):
    """A network that is run from memory: cold, and again, when what fits is on the chip."""

    def identity(self) -> object:
        config = memory_config(dict(self.changes))
        return ("from memory", config.to_toml(), memory_timing(config), _POLICY, repr(study_graph(self.network)))

    def cost(self) -> float:
        return 4 * super().cost()

    def figures(self) -> Figures:
        """``warm_...``: of a run after another one. ``compute_cycles``: of all epochs. ``least_bytes``: weights, inputs and outputs
        once. ``refused``: a sentence, in place of all others."""
        graph = study_graph(self.network)
        began = time.perf_counter()
        try:
            config = memory_config(dict(self.changes))
            # Values do not change cycles.
            constants = with_scale_bits(random_parameters(graph, 0), config.scale_bits)
            options = CompileOptions(from_memory=True, policy=_POLICY)
            compiled = compile_network(graph, config, constants, options)
        except (ConfigError, WorkloadError) as error:
            return {"refused": str(error)}
        compiled_s, timing, count = time.perf_counter() - began, memory_timing(config), macs(gemms(graph))
        found: Figures = {"pods": config.pods, "macs": count, "epochs": len(compiled.epochs), "compile_s": compiled_s}
        for name, warm in (("", False), ("warm_", True)):
            run = predict_accelerator(compiled, timing, warm=warm)
            found |= {
                f"{name}cycles": run.cycles,
                f"{name}tops": tera_ops(count, run.cycles),
                f"{name}bytes": sum(epoch["bytes"] for epoch in run.timeline),
                f"{name}hbm_cycles": run.hbm_cycles,
                "compute_cycles": run.compute_cycles,
            }
        full = config.managers * config.host_bits // 8
        found["bytes_per_cycle"] = 16 * full / timing.beat_sixteenths
        return found | {"least_bytes": least_bytes(graph, config).network, "model_s": time.perf_counter() - began - compiled_s}


def memory_points(networks: Sequence[str], pods: int) -> list[Point]:
    """Each network as `throughput` has it, and from memory."""
    return [
        *throughput_points(networks, pods),
        *(MemoryPoint("throughput", network, "from memory", (("pods", pods),)) for network in networks),
    ]


def memory_throughput(results: Results) -> Outcome:
    """``bound``: TOPS if the larger of two times were all: the cycles of the same network with all words there, and those of the
    memory for weights, inputs and outputs, each once."""
    networks, pods, series = results.networks, results.pods, "from memory"
    rows: list[list[Cell]] = []
    means: list[tuple[float | None, ...]] = []
    moved: list[list[Cell]] = []
    for network in networks:
        count = macs(gemms(study_graph(network)))
        resident, least = results.get(network, "ours", "cycles"), results.get(network, series, "least_bytes")
        bound = tera_ops(count, max(resident, least / BYTES_PER_CYCLE)) if resident and least else None
        theirs = sosa_tops(network) if pods == 256 else None
        tops = [results.get(network, *which) for which in (("ours", "tops"), (series, "tops"), (series, "warm_tops"))]
        cells = [results.cell(network, *which) for which in (("ours", "tops"), (series, "cycles"), (series, "tops"))]
        rows.append(
            [
                network,
                cells[0],
                bound,
                *cells[1:],
                *(results.cell(network, series, f"warm_{w}") for w in ("cycles", "tops")),
                theirs,
            ]
        )
        means.append((tops[0], bound, tops[1], tops[2], theirs))
        sizes = [results.cell(network, series, name, 1e-6) for name in ("least_bytes", "bytes", "warm_bytes")]
        others = [results.cell(network, series, name) for name in ("epochs", "compute_cycles", "hbm_cycles", "compile_s")]
        moved.append([network, *sizes, *others])
    mean = [hmean(column) for column in zip(*means, strict=True)]
    rows.append([f"hmean of {len(networks)}", mean[0], mean[1], None, mean[2], None, mean[3], mean[4]])
    config = memory_config({"pods": pods})
    rate = 16 * config.managers * config.host_bits / 8 / memory_timing(config).beat_sixteenths
    notes = [
        OURS.replace("weights resident", "weights resident, stores too large to be felt") + " These are the column resident.",
        f"from memory: banks of 256 KiB; {config.managers} managers of {config.host_bits} bits, {rate:.0f} bytes per cycle, of "
        "which refresh takes 6.7%; from start to interrupt, everything loaded. warm: the run after it, with what fits on the chip.",
        f"bound: the longer of resident and {BYTES_PER_CYCLE} bytes per cycle for weights, inputs and outputs, each once.",
        "SOSA TOPS: its own scheduler, 256 pods, HBM of 1.2 TB/s in its simulator; published scaled to 400 W, here scaled back.",
    ]
    columns = ["network", "resident", "bound", "cycles", "from memory", "warm cycles", "warm", "SOSA TOPS"]
    names = [str(row[0]) for row in rows]
    drawn: dict[str, Sequence[Cell]] = {
        "resident": [row[1] for row in rows],
        "bound": [row[2] for row in rows],
        "from memory": [row[4] for row in rows],
        "warm": [row[6] for row in rows],
        "SOSA, its scheduler (published)": [row[7] for row in rows],
    }
    tables = [
        table(f"{pods} pods of 32x32, TOPS", columns, rows, notes),
        table(
            "megabytes loaded, and epochs",
            ["network", "at least", "cold", "warm", "epochs", "their cycles", "beats", "seconds"],
            moved,
            ["beats: cycles that those of the busiest manager take, without refresh. seconds: to compile."],
        ),
    ]
    return tables, chart("network", "TOPS at 1 GHz", names, drawn, "SOSA")
