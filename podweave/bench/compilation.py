"""Bench of the compiler: networks from nothing, and again when they are kept."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from podweave.compiler.compile_network import CompileOptions
from podweave.ir.constants import Constants
from podweave.ir.graph import Graph
from podweave.spec.config import ChipConfig
from podweave.spec.presets import load_config

from ..runs.jobs import chip_graphs, model_constants
from ..runs.kept_networks import compile_kept
from .chips import empty_cache

Progress = Callable[[str], None]
Task = tuple[Graph, ChipConfig, Constants | None, CompileOptions]


def measure_compilation(ample: Mapping[str, int], repeat: int, progress: Progress) -> list[dict[str, Any]]:
    """Seconds of a core that two compilations take: ``first_s`` with an empty cache, ``second_s`` once more.

    ``ample``: banks and stores in which the larger network fits. Programs are held against no rules.
    """
    rows = []
    for what, task in _tasks(ample):
        first: list[float] = []
        second: list[float] = []
        for number in range(repeat):
            progress(f"compiling {what} ({number + 1}/{repeat})")
            with empty_cache():
                for seconds in (first, second):
                    began = time.process_time()
                    network = compile_kept(*task)
                    seconds.append(time.process_time() - began)
                    epochs = len(network.epochs)
                    del network
        rows.append({"network": what, "epochs": epochs, "first_s": statistics.median(first), "second_s": statistics.median(second)})
    return rows


def _tasks(ample: Mapping[str, int]) -> list[tuple[str, Task]]:
    config = load_config("chip16x32")
    (small,), (large,) = chip_graphs("resnet50"), chip_graphs("resnet50_299")
    options = CompileOptions(from_memory=True, check="never")
    return [
        ("resnet50 on chip16x32", (small, config, model_constants(small, scale_bits=config.scale_bits), options)),
        ("resnet50_299 on chip256x32", (large, load_config("chip256x32").replace(**ample), None, CompileOptions(check="never"))),
    ]
