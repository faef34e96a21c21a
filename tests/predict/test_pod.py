"""predict.pod: what a pod moves, against the ports of the cycle model, which is what RTL is held against."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from podweave.compiler.pod.layer_compiler import compile_layer
from podweave.compiler.pod.program import Program
from podweave.ir.layers import parse_workload
from podweave.predict.pod import accesses, geometry_of, predicted_spans
from podweave.spec.presets import load_config
from podweave.tb.benches.pod_expected import expected_ports

POD4 = load_config("pod4")
SMALL = POD4.replace(name="small", x_words=64, w_words=32, p_words=32)


def on_the_ports(program: Program) -> dict[str, Any]:
    """First and last cycle, and number of words, as the valid signals of the ports show them."""
    config, memory = program.config, program.config.memory
    banks = [
        np.zeros((memory.banks, words, lanes), np.int8)
        for words, lanes in ((memory.x_words, config.array.rows), (memory.w_words, config.array.cols))
    ]
    seen: dict[str, list[int]] = {"x": [], "w": [], "p": []}
    began = 0
    for epoch, span in zip(program.epochs, predicted_spans(program), strict=True):
        ports = expected_ports(geometry_of(config), epoch, span.last_write + 40, *banks)
        valid = {kind: np.flatnonzero(ports[name].value) for kind, name in VALID.items()}
        first = min(times[0] for times in valid.values())
        for kind, times in valid.items():
            seen[kind] += (times - first + began).tolist()
        began += span.cycles
    return {kind: {"first": times[0], "last": times[-1], "words": len(times)} for kind, times in seen.items()}


VALID = {"x": "x_request_valid", "w": "w_request_valid", "p": "p_valid"}


@pytest.mark.parametrize("accumulators", [0, 16])
@pytest.mark.parametrize("config", [POD4, SMALL], ids=["pod4", "small"])
@pytest.mark.parametrize("text", ["gemm:50x24x8", "gemm:3x8x16", "conv:9x9x8x4,kernel=3x3,padding=same,stride=2"])
def test_accesses_are_those_of_the_ports(accumulators: int, config: Any, text: str) -> None:
    program = compile_layer(parse_workload(text), config.replace(accumulator_rows=accumulators))
    found, seen = accesses(program), on_the_ports(program)
    for kind in VALID:
        # All lanes of every word are in use.
        assert found[kind] == {"first": seen[kind]["first"], "last": seen[kind]["last"], "numbers": 4 * seen[kind]["words"]}
    assert found["words_streamed"] == seen["x"]["words"]
    if config is SMALL and text == "gemm:50x24x8":
        assert len(program.epochs) > 2


def test_numbers_are_those_of_the_lanes_in_use() -> None:
    # 2 weight tiles of 4 and 1 lanes, over 2 column tiles of 4 and 3 outputs.
    found = accesses(compile_layer(parse_workload("gemm:10x5x7"), POD4))
    assert (found["x"]["numbers"], found["w"]["numbers"], found["words_streamed"]) == (10 * 5 * 2, 5 * 7, 10 * 2 * 2)
    assert found["p"]["numbers"] == 10 * 7
    without = accesses(compile_layer(parse_workload("gemm:10x5x7"), POD4.replace(accumulator_rows=0)))
    # P banks accumulate: each weight tile writes.
    assert without["p"]["numbers"] == 2 * 10 * 7
