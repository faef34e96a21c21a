"""The accelerator that most tests run: two managers, four pods of 4 x 4, 256 words per bank."""

from __future__ import annotations

from podweave.compiler.compile_network import CompileOptions
from podweave.tb.benches.accelerator_bench import AcceleratorBench
from tests.rtl.accelerator.accelerator_runs import CONFIGS, FAST, bench

CONFIG = CONFIGS[FAST]
FROM_MEMORY = CompileOptions(from_memory=True)


def small_bench() -> AcceleratorBench:
    """The simulator of `CONFIG` that the tests of the accelerator build, or have built."""
    return bench(FAST)
