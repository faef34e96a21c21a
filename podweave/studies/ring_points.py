"""Points of the study of several chips: a workload among the chips of a ring, over links and memories, by the exact model."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from podweave.compiler.compile_network import CompileOptions
from podweave.compiler.compile_system import compile_alike
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends.random_rows import random_row_parameters
from podweave.ir.frontends.registry import load_graph
from podweave.ir.layers import WorkloadError
from podweave.ir.partition import partition
from podweave.ir.row_graph import RowGraph
from podweave.predict.accelerator import Prediction
from podweave.predict.link_timing import LinkTiming
from podweave.predict.memory_timing import HbmTiming
from podweave.predict.system import predict_system
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ConfigError
from podweave.spec.presets import load_config

from .points import Figures

WAYS = {"on": (True, True), "apart": (True, False), "off": (False, True)}
"""``prefetch`` and ``beneath``: words are prefetched beneath everything; beneath epochs of the chip only; not at all."""


@dataclass(frozen=True)
class RingPoint:
    """A workload on ``chips`` chips, once for each of some links, with and without prefetching.

    Parameters
    ----------
    preset : str
        The chips.
    workload : str
        A graph of rows.
    chips : int
        2 or more.
    links : tuple
        Sixteenths of a cycle that a flit takes, of each link.
    memory : int
        The same of a beat of memory.
    w_words, x_words, p_words, row_registers : int
        Words of a W, an X and a P bank, and registers of rows of a post-processor, 0: as the preset has them.
    latency : int
        Cycles of a link.
    ahead : float
        Prefetch ratio of all weights, keys and values.
    """

    preset: str
    workload: str
    chips: int
    links: tuple[int, ...]
    memory: int = 16
    w_words: int = 0
    x_words: int = 0
    p_words: int = 0
    row_registers: int = 0
    latency: int = 100
    ahead: float = 1.0

    def config(self) -> ChipConfig:
        changes = {name: getattr(self, name) for name in ("w_words", "x_words", "p_words", "row_registers")}
        return load_config(self.preset).replace(**{name: value for name, value in changes.items() if value})

    def link_bytes(self, sixteenths: int) -> float:
        """Bytes per cycle of a link."""
        links = self.config().links
        assert links is not None
        return links.flit_bits / 8 * 16 / sixteenths

    def identity(self) -> object:
        return ("ring", repr(self.config()), sorted(asdict(self).items(), key=lambda item: item[0]))

    def cost(self) -> float:
        graph = load_graph(self.workload)
        return sum(operation.macs for operation in graph.operations) / self.chips + 1e7 * self.chips * len(self.links)

    def figures(self) -> Figures:
        """``loading``: cycles that the beats of the busiest manager of a chip take, refreshes included; ``links``: of each, by the
        names of `WAYS`, what `_of_run` says of the slowest chip. Or ``{"refused": sentence}``."""
        try:
            config, graph = self.config(), load_graph(self.workload)
            if not isinstance(graph, RowGraph):
                raise WorkloadError(f"{self.workload} has no operations on rows: several chips share those")
            # Values do not change cycles.
            constants = with_scale_bits(random_row_parameters(graph, with_weights=False), config.scale_bits)
            began = time.perf_counter()
            options = CompileOptions(from_memory=True, check="never", prefetch_ratios={"*": self.ahead})
            networks = compile_alike(partition(graph, constants, self.chips), config, options)
        except (ConfigError, WorkloadError) as error:
            return {"refused": str(error)}
        compiled, timing, found = time.perf_counter(), HbmTiming(beat_sixteenths=self.memory), []
        for sixteenths in self.links:
            link = LinkTiming(latency=self.latency, beat_sixteenths=sixteenths)
            ways = {
                name: predict_system(networks, timing, link, prefetch=prefetch, beneath=beneath)
                for name, (prefetch, beneath) in WAYS.items()
            }
            found.append({name: _of_run(max(chips, key=lambda chip: chip.cycles)) for name, chips in ways.items()})
        loading = max(chip.hbm_cycles for chip in ways["on"]) / (timing.available * self.memory / 16)
        return {
            "loading": loading,
            "bytes": networks[0].memory.loaded_bytes(),
            "collectives": len(networks[0].collectives),
            "w_bytes": config.pods * config.memory.w_words * config.array.cols,
            "beat_bytes": config.host_bits // 8,
            "memory_bytes_per_cycle": timing.available * config.managers * config.host_bits / 8,
            "links": found,
            "compile_s": compiled - began,
            "model_s": time.perf_counter() - compiled,
        }


def _of_run(chip: Prediction) -> dict[str, Any]:
    """Cycles of a run, of its collectives and of its other epochs; beats prefetched beneath collectives."""
    counters = chip.counters
    return {
        "cycles": chip.cycles,
        "collective": counters["COLLECTIVE_CYCLES"],
        "run": counters["RUN_CYCLES"],
        "beneath": counters["BENEATH_BEATS"],
    }
