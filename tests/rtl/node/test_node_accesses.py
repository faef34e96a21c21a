"""A node alone, whose words the host writes and reads: every bit of each bank, beat by beat, and what no read brings."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from amaranth.hdl import Shape

from podweave.rtl.node.node import Node
from podweave.spec.load_port import HostSelect, host_widths
from podweave.spec.presets import load_config
from podweave.tb.benches.block_bench import BlockBench
from tests.rtl.block_tables import Values, compare, tables

pytestmark = pytest.mark.more

# As of the chip that judges nodes.
CONFIG = load_config("chip2x4")
CYCLES = 4000
# A word that was written so many cycles before is where it belongs.
SETTLED = 8
BANKS = {
    HostSelect.X: CONFIG.memory.x_words,
    HostSelect.W: CONFIG.memory.w_words,
    HostSelect.P: CONFIG.memory.p_words,
}


@functools.cache
def case() -> tuple[BlockBench, Values, Values]:
    config, rng = CONFIG, np.random.default_rng(8)
    node = Node(config)
    widths = {name: Shape.cast(member.shape).width for name, member in node.signature.members.items()}
    lanes = {name: (1, bits, False) for name, bits in widths.items() if bits > 60}
    lanes |= dict.fromkeys(("host_data", "host_read_data"), (1, config.host_bits, False))
    bench = BlockBench.of(node, lanes, random_initial_state=True)
    given, seen = tables(bench, rng, CYCLES)
    for name, values in given.items():
        if not name.startswith("host_"):
            values[:] = 0
    width = config.host_bits
    words: dict[tuple[HostSelect, int], tuple[int, np.ndarray]] = {}
    staged: dict[int, np.ndarray] = {}
    read = 0
    addresses = {select: rng.choice(size, 12, replace=False) for select, size in BANKS.items()}
    seen["host_read_data"][4:] = 0
    for cycle in range(CYCLES):
        select = list(BANKS)[int(rng.integers(3))]
        bits = host_widths(config)[select][1]
        beat, address = int(rng.integers(-(-bits // width))), int(rng.choice(addresses[select]))
        valid, write, commit = cycle > 2 and rng.random() < 0.8, rng.random() < 0.6, rng.random() < 0.4
        now = {"select": select, "address": address, "beat": beat, "valid": valid, "write": write, "commit": commit}
        for name, value in now.items():
            given[f"host_{name}"][cycle] = value
        if valid and write:
            staged[beat] = given["host_data"][cycle].copy()
            beats = range(-(-bits // width))
            if commit and all(number in staged for number in beats):
                words[select, address] = cycle, np.concatenate([staged[number] for number in beats])[:bits]
            elif commit:
                words.pop((select, address), None)
        elif valid and cycle + 3 < CYCLES:
            at, word = words.get((select, address), (cycle, None))
            seen["host_read_data"][cycle + 3] = -1
            if word is not None and at + SETTLED < cycle:
                part = word[width * beat : width * (beat + 1)]
                seen["host_read_data"][cycle + 3] = np.concatenate([part, np.zeros(width - len(part), np.int64)])
                read += 1
    assert read > 300
    seen["error"][4:] = 0
    return bench, given, seen


def test_words_of_the_host() -> None:
    bench, given, seen = case()
    compare(seen, bench.run(given))
