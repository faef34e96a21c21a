"""tb.lockstep.ports: ports of any width survive the trace, and the checker finds what is wrong, where it is, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from podweave.golden.cycle.ports import PortTrace
from podweave.tb.lockstep.ports import LockstepError, Mismatch, Port, compared, first_mismatch


@st.composite
def traced(draw: st.DrawFn) -> tuple[Port, NDArray[np.int64]]:
    port = Port("p", draw(st.integers(1, 40)), draw(st.integers(0, 5)), draw(st.booleans()))
    low, high = (-(2 ** (port.width - 1)), 2 ** (port.width - 1) - 1) if port.signed else (0, 2**port.width - 1)
    shape = (draw(st.integers(1, 4)), *([port.lanes] if port.lanes else []))
    size = int(np.prod(shape))
    values = draw(st.lists(st.integers(low, high), min_size=size, max_size=size))
    return port, np.array(values, np.int64).reshape(shape)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(traced())
def test_pack_and_unpack(case: tuple[Port, NDArray[np.int64]]) -> None:
    port, values = case
    raw = port.pack(values)
    assert raw.shape == (len(values), port.bytes)
    assert port.bytes == -(-port.width * max(1, port.lanes) // 8)
    assert_array_equal(port.unpack(raw), values, strict=True)
    # The same bits by plain integers, lane 0 least significant.
    lanes = values.reshape(len(values), -1).tolist()
    words = [sum((value % 2**port.width) << (i * port.width) for i, value in enumerate(row)) for row in lanes]
    assert [int.from_bytes(row.tobytes(), "little") for row in raw] == words


@pytest.mark.parametrize(
    ("port", "raw", "values"),
    [
        (Port("p", 8, 2, True), [0xFF, 0x7F], [-1, 127]),
        (Port("p", 8, 2, False), [0xFF, 0x7F], [255, 127]),
        (Port("p", 3, 3, False), [0b10_001_111, 0b1], [7, 1, 6]),
        (Port("p", 3, 3, True), [0b10_001_111, 0b1], [-1, 1, -2]),
        (Port("p", 1, 4), [0b1010], [0, 1, 0, 1]),
        (Port("p", 16, 1, True), [0x00, 0x80], [-32768]),
        (Port("p", 32, 0, False), [0xFF] * 4, 2**32 - 1),
        (Port("p", 13, 0, True), [0xFF, 0x1F], -1),
    ],
)
def test_unpack_by_hand(port: Port, raw: list[int], values: int | list[int]) -> None:
    assert port.unpack(np.array([raw], np.uint8))[0].tolist() == values


def test_unpack_of_a_slice_of_a_trace() -> None:
    trace = np.arange(24, dtype=np.uint8).reshape(3, 8)
    assert Port("p", 16).unpack(trace[:, 2:4]).tolist() == [0x0302, 0x0B0A, 0x1312]


def example(cycles: int = 6) -> tuple[dict[str, PortTrace], dict[str, NDArray[np.int64]]]:
    """A model that knows everything of `valid` and `data`, and nothing of `late` in its first two cycles."""
    rng = np.random.default_rng(3)
    data = rng.integers(-100, 100, (cycles, 3))
    late = rng.integers(0, 9, cycles)
    valid = rng.integers(0, 2, cycles)
    expected = {
        "valid": PortTrace(valid, np.ones(cycles, bool)),
        "data": PortTrace(data, np.ones((cycles, 3), bool)),
        "late": PortTrace(late, np.arange(cycles) >= 2),
    }
    return expected, {name: trace.value.copy() for name, trace in expected.items()}


def test_equal_traces_have_no_mismatch() -> None:
    expected, observed = example()
    assert first_mismatch(expected, observed) is None
    # 6 bits of valid, 18 lanes of data, 4 known values of late.
    assert compared(expected, 6) == 28
    assert compared(expected, 2) == 2 + 6 + 0


def test_first_mismatch_is_the_earliest_over_all_ports() -> None:
    expected, observed = example()
    observed["data"][4, 1] += 5
    observed["data"][5, 0] += 1
    want = int(expected["data"].value[4, 1])
    assert first_mismatch(expected, observed) == Mismatch(4, "data", 1, want, want + 5)
    observed["late"][3] += 2
    want = int(expected["late"].value[3])
    found = first_mismatch(expected, observed)
    assert found == Mismatch(3, "late", None, want, want + 2)
    assert str(found) == f"cycle 3, port late: expected {want}, got {want + 2}"
    observed["data"][3, 2] = 1000
    observed["data"][2, 1] = 1001
    observed["data"][2, 2] = 1002
    found = first_mismatch(expected, observed)
    assert str(found) == f"cycle 2, port data lane 1: expected {expected['data'].value[2, 1]}, got 1001"


def test_mismatches_of_one_cycle_are_told_in_the_order_of_the_model() -> None:
    expected, observed = example()
    for name in ("late", "valid"):
        observed[name][3] += 1
    found = first_mismatch(expected, observed)
    assert found is not None
    assert found.port == "valid"


def test_unknown_values_are_not_compared() -> None:
    expected, observed = example()
    observed["late"][:2] += 7
    assert first_mismatch(expected, observed) is None
    observed["late"][2] += 7
    found = first_mismatch(expected, observed)
    assert found is not None
    assert (found.cycle, found.port) == (2, "late")


def test_lanes_are_known_one_by_one() -> None:
    known = np.array([[True, False], [False, True]])
    expected = {"data": PortTrace(np.zeros((2, 2), np.int64), known)}
    assert first_mismatch(expected, {"data": np.array([[0, 9], [9, 0]])}) is None
    assert first_mismatch(expected, {"data": np.array([[0, 9], [9, 8]])}) == Mismatch(1, "data", 1, 0, 8)


def test_part_of_a_trace_is_compared_at_its_place() -> None:
    expected, observed = example()
    part = {name: values[2:5] for name, values in observed.items()}
    assert first_mismatch(expected, part, begin=2) is None
    part["data"][1, 0] += 1
    found = first_mismatch(expected, part, begin=2)
    assert found is not None
    assert (found.cycle, found.port, found.lane) == (3, "data", 0)
    assert first_mismatch(expected, part, begin=1) is not None


def test_port_that_was_not_observed_is_an_error() -> None:
    expected, observed = example()
    del observed["late"]
    with pytest.raises(KeyError, match="late"):
        first_mismatch(expected, observed)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.sampled_from(("valid", "data", "late")), st.integers(0, 5), st.integers(0, 2), st.integers(0, 31))
def test_one_flipped_bit_anywhere_is_found(name: str, cycle: int, lane: int, bit: int) -> None:
    expected, observed = example()
    ports = {"valid": Port("valid", 32), "data": Port("data", 32, 3, True), "late": Port("late", 32)}
    port = ports[name]
    # In the raw trace, as a fault in the hardware would show.
    raw = port.pack(observed[name])
    at = bit + (32 * lane if port.lanes else 0)
    raw[cycle, at // 8] ^= 1 << (at % 8)
    observed[name] = port.unpack(raw)
    found = first_mismatch(expected, observed)
    if name == "late" and cycle < 2:
        assert found is None
        return
    assert found is not None
    assert (found.cycle, found.port, found.lane) == (cycle, name, lane if port.lanes else None)
    assert found.expected ^ found.got == (1 << bit if bit < 31 or not port.signed else -(1 << 31))


def test_error_names_block_and_place() -> None:
    error = LockstepError("array_group", Mismatch(7, "p_o", 3, -5, 11))
    assert str(error) == "array_group differs from its cycle model at cycle 7, port p_o lane 3: expected -5, got 11"
    assert error.mismatch.lane == 3
