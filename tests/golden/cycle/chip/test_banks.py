"""golden.cycle.chip.banks, cycle by cycle by hand."""

from __future__ import annotations

import numpy as np

from podweave.golden.cycle.chip.banks import p_bank, read_bank, written_bank


def row(*values: int) -> np.ndarray:
    return np.array(values)[:, None]


def test_weights() -> None:
    ports = read_bank(
        words=4,
        read_valid=np.array([[0, 0], [0, 1], [1, 1], [1, 1], [0, 0]], bool),
        read_address=np.array([[0, 0], [0, 2], [2, 2], [1, 2], [0, 0]]),
        host_read=np.array([0, 0, 0, 0, 1], bool),
        host_write=np.array([1, 1, 0, 0, 0], bool),
        host_address=np.array([2, 1, 0, 0, 1]),
        host_data=row(7, 8, 0, 0, 0),
    )
    assert set(ports) == {"data", "reads", "conflict"}
    assert ports["data"].value[:, 0].tolist() == [0, 0, 7, 7, 8]
    assert ports["data"].known[:, 0].tolist() == [False, False, True, True, True]
    assert ports["reads"].value.tolist() == [0, 1, 1, 1, 0]
    assert ports["conflict"].value.tolist() == [0, 0, 0, 1, 0]


def test_activations() -> None:
    cycles = 6
    nothing = np.zeros(cycles, int)
    ports = written_bank(
        words=4,
        slots=2,
        read_valid=row(0, 1, 1, 1, 0, 0).astype(bool),
        read_address=row(0, 3, 3, 3, 0, 0),
        write_valid=row(1, 0, 1, 0, 0, 0).astype(bool),
        write_slot=row(0, 0, 1, 0, 0, 0),
        write_address=row(3, 0, 3, 0, 0, 0),
        write_data=row(5, 0, 6, 0, 0, 0),
        host_read=nothing.astype(bool),
        host_write=nothing.astype(bool),
        host_address=nothing,
        host_data=np.zeros((cycles, 2), int),
    )
    assert ports["data"].known.tolist() == [[False] * 2] * 2 + [[True, False]] * 2 + [[True] * 2] * 2
    assert ports["data"].value[2, 0] == ports["data"].value[3, 0] == 5
    assert ports["data"].value[4].tolist() == ports["data"].value[5].tolist() == [5, 6]
    assert ports["writes"].value.tolist() == [1, 0, 1, 0, 0, 0]
    assert ports["hazard"].value.tolist() == [0, 0, 1, 0, 0, 0]
    assert not ports["conflict"].value.any()


def test_partial_sums() -> None:
    ports = p_bank(
        words=4,
        psum_width=17,
        write_valid=np.array([[0, 1], [1, 0], [0, 0], [0, 0], [1, 1], [0, 0], [0, 0]], bool),
        write_accumulate=np.array([[0, 0], [1, 0], [0, 0], [0, 0], [1, 0], [0, 0], [0, 0]], bool),
        write_address=np.array([[0, 1], [1, 0], [0, 0], [0, 0], [2, 1], [0, 0], [0, 0]]),
        write_data=np.array([[0, 65535], [1, 0], [0, 0], [0, 0], [9, 9], [0, 0], [0, 0]]),
        read_enable=np.array([0, 1, 1, 1, 1, 1, 0], bool),
        read_address=np.array([0, 1, 1, 1, 1, 1, 0]),
        host_write=np.zeros(7, bool),
        host_address=np.zeros(7, int),
        host_data=np.zeros((7, 1), int),
    )
    assert ports["stores"].value.tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert ports["accumulates"].value.tolist() == [0, 1, 0, 0, 1, 0, 0]
    assert ports["conflict"].value.tolist() == [0, 0, 0, 0, 1, 0, 0]
    assert ports["busy_conflict"].value.tolist() == [0, 1, 0, 0, 1, 0, 0]
    assert ports["hazard"].value.tolist() == [0, 1, 1, 0, 0, 0, 0]
    # Known after the reads of cycles 3 and 5, which meet nothing; the sum has wrapped.
    assert ports["read_data"].known[:, 0].tolist() == [False, False, False, False, True, False, True]
    assert ports["read_data"].value[[4, 6], 0].tolist() == [-65536, -65536]
