"""The small chip that rounds halves to even, adds zero points and multiplies few bits, two lanes at a time."""

from podweave.spec.presets import load_config

NARROW = load_config("chip2x4").replace(
    name="narrow2x4", scale_bits=16, sum_bits=22, lanes=2, tables=8, rounding="half_even", zero_points=True
)

GATED = NARROW.replace(name="gated2x4", scale_bits=24, sum_bits=33, tables=2, row_registers=16, parameter_sets=64)
"""The same with row functions, so that it multiplies tensors, and places for two activation tables at a time."""
