"""rtl.post.requantizer: against integers without limits, near every power of two and near what saturates."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from podweave.rtl.post.requantizer import Requantizer
from podweave.spec.config import ChipConfig
from podweave.spec.presets import load_config
from podweave.spec.row_functions import Saturate
from podweave.tb.benches.block_bench import BlockBench
from tests.fast import fast_of

CNN, ROWS = load_config("chip4x16"), load_config("llm8x16")
CONFIGS = {
    "int8": CNN,
    "int8, even": CNN.replace(rounding="half_even", scale_bits=31),
    "int8, 16 bits of scale": CNN.replace(scale_bits=16),
    "int8, 23 by 17 bits": CNN.replace(sum_bits=23, scale_bits=17),
    "int8, 20 by 24 bits, even": CNN.replace(sum_bits=20, scale_bits=24, rounding="half_even"),
    "int8, zero points": CNN.replace(zero_points=True),
    "33 by 31 bits, zero points": CNN.replace(scale_bits=31, sum_bits=33, zero_points=True),
    "int8, 33 by 24 bits, even, zero points": CNN.replace(sum_bits=33, scale_bits=24, rounding="half_even", zero_points=True),
    "rows": ROWS.replace(scale_bits=31),
    "rows, even": ROWS.replace(rounding="half_even"),
    "rows, 17 bits": ROWS.replace(psum_width=17),
    "rows, 24 bits, even": ROWS.replace(psum_width=24, rounding="half_even", scale_bits=31),
    "rows, 17 bits of scale, even": ROWS.replace(scale_bits=17, rounding="half_even"),
    "rows, 24 bits of scale, even, zero points": ROWS.replace(scale_bits=24, rounding="half_even", zero_points=True),
    "rows, 17 bits, zero points": ROWS.replace(psum_width=17, zero_points=True),
}
FAST = ("33 by 31 bits, zero points", "int8, 33 by 24 bits, even, zero points", "rows, even", "rows, 17 bits, zero points")
LIMITS = {Saturate.INT8: (-128, 127), Saturate.UINT8: (0, 255), Saturate.INT16: (-32768, 32639)}


def near_a_power(rng: random.Random, bits: int, *, signed: bool) -> int:
    """A number of any length up to ``bits``, now and then a power of two or one less."""
    length = rng.randrange(bits + 1)
    value = (1 << length) - rng.randrange(2) if rng.random() < 0.2 else rng.getrandbits(length or 1)
    return -value if signed and rng.random() < 0.5 else min(value, (1 << bits) - 1)


def expected(dut: Requantizer, value: int, multiplier: int, shift: int, saturate: Saturate, zero_point: int) -> int:
    most = 1 << dut.sum_bits - 1
    product = max(-most, min(most - 1, (value + (1 << 32)) % (1 << 33) - (1 << 32))) * multiplier
    halves, rest = divmod(2 * abs(product) + (1 << shift), 2 << shift)
    if dut.even and rest == 0 and halves % 2:
        halves -= 1
    least, most = LIMITS.get(saturate, (-1 << dut.width - 1, (1 << dut.width - 1) - 1))
    return max(least, min(most, (-halves if product < 0 else halves) + zero_point))


def numbers(dut: Requantizer, rng: random.Random) -> tuple[int, int, int, int, Saturate, int]:
    """Sum, bias, multiplier, shift, how it saturates, and zero point."""
    most = 127 if dut.rows else 63
    total, bias = (near_a_power(rng, bits, signed=True) for bits in (31 + dut.rows, 31))
    multiplier = near_a_power(rng, dut.scale_bits, signed=False)
    shift = rng.randrange(most + 1)
    if rng.random() < 0.7:
        # So that something between one bit and one too many is left.
        seen = min(abs(total + bias), 1 << dut.sum_bits - 1)
        shift = (seen * multiplier).bit_length() - rng.randrange(-2, dut.width + 2)
    saturate = rng.choice(list(Saturate)) if dut.rows else Saturate.INT8
    zero_point = rng.choice([-128, 127, 0, rng.randrange(-128, 128)]) if dut.zero_points else 0
    return total, bias, multiplier, max(0, min(most, shift)), saturate, zero_point


def one_bit(dut: Requantizer, rng: random.Random) -> tuple[int, int, int, int, Saturate, int]:
    """Of what is shifted, all but the lowest bits are its sign, or all but those and a single one above."""
    low, bit = rng.getrandbits(rng.randrange(1, 10)), 1 << rng.randrange(8, 31)
    total = rng.choice([low, bit | low, -low - 1, -bit - low - 1])
    shift, multiplier = rng.randrange(0, 30), rng.choice([1, 1, 3, 1 << rng.randrange(dut.scale_bits)])
    zero_point = rng.choice([0, rng.randrange(-128, 128)]) if dut.zero_points else 0
    return total, rng.randrange(-1, 2), multiplier, shift, rng.choice(list(Saturate)) if dut.rows else Saturate.INT8, zero_point


@pytest.mark.parametrize("key", ["33 by 31 bits, zero points", "rows, 24 bits, even"])
@pytest.mark.more
def test_emitted_one_word_behind_the_other(key: str) -> None:
    """The Verilog, with a word in every cycle, and now and then none."""
    config = CONFIGS[key]
    dut, rng, cycles = Requantizer(config), random.Random(key), 4000
    ports = {"sum": (32 + dut.rows, 0, True), "bias": (32, 0, True), "result": (dut.width, 0, True), "zero_point": (8, 0, True)}
    bench = BlockBench.of(dut, ports)
    stimulus = {port.name: np.zeros(cycles, np.int64) for port in bench.inputs}
    wanted = []
    for cycle in range(cycles - 4):
        if rng.random() < 0.1:
            continue
        total, bias, multiplier, shift, saturate, zero_point = (numbers if rng.random() < 0.5 else one_bit)(dut, rng)
        # What a stage takes comes with it.
        for stage, values in enumerate([{"sum": total, "bias": bias}, {"multiplier": multiplier}, {"shift": shift}]):
            stimulus["stages"][cycle + stage] |= 1 << stage
            for name, value in values.items():
                stimulus[name][cycle + stage] = value
        for name, value in (("saturate", int(saturate)), ("zero_point", zero_point)):
            if name in stimulus:
                stimulus[name][cycle + 2] = value
        wanted.append((cycle + 3, expected(dut, total + bias, multiplier, shift, saturate, zero_point)))
    found = bench.run(stimulus)["result"]
    when = np.array([cycle for cycle, _ in wanted])
    np.testing.assert_array_equal(found[when], [value for _, value in wanted])
    # A result stays until the next.
    kept = np.setdiff1d(when + 1, when)
    np.testing.assert_array_equal(found[kept], found[kept - 1])


@pytest.mark.parametrize("key", fast_of(CONFIGS, *FAST))
def test_any_numbers(key: str) -> None:
    config: ChipConfig = CONFIGS[key]
    dut, rng, inside = Requantizer(config), random.Random(key), 0

    async def bench(context: Any) -> None:
        nonlocal inside
        context.set(dut.stages, 7)
        for _ in range(1500):
            total, bias, multiplier, shift, saturate, zero_point = numbers(dut, rng)
            if dut.rows:
                context.set(dut.saturate, int(saturate))
            if dut.zero_points:
                context.set(dut.zero_point, zero_point)
            for port, value in ((dut.sum, total), (dut.bias, bias), (dut.multiplier, multiplier), (dut.shift, shift)):
                context.set(port, value)
            for _ in range(3):
                await context.tick()
            wanted = expected(dut, total + bias, multiplier, shift, saturate, zero_point)
            inside += wanted not in (0, *LIMITS.get(saturate, ()))
            assert context.get(dut.result) == wanted, (total, bias, multiplier, shift, saturate, zero_point)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert inside > 300
