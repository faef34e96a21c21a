"""golden.cycle.chip.network: words followed by hand, and against a simulation of single switches, one word at a time."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.golden.cycle.chip.network import NetworkGeometry, read_network, write_network

EIGHT = NetworkGeometry(layers=(2, 1), pipeline=1, turnaround=2)


def requests(ports: int, cycles: int, *words: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``words``: (cycle, pod, bank, payload) each."""
    valid, bank = np.zeros((cycles, ports), bool), np.zeros((cycles, ports), np.int64)
    payload = np.zeros((cycles, ports, 1), np.int64)
    for cycle, pod, to, word in words:
        valid[cycle, pod], bank[cycle, pod], payload[cycle, pod] = True, to, word
    return valid, bank, payload


@pytest.mark.parametrize(
    ("layers", "pipeline", "depth", "registers"),
    [
        ((4,), 1, 4, [0, 1, 2, 3]),
        ((4,), 3, 2, [0, 0, 0, 1]),
        ((3,), 8, 1, [0, 0, 0]),
        ((4, 3), 2, 4, [0, 0, 1, 1, 2, 2, 3]),
        ((3, 2), 2, 3, [0, 0, 1, 2, 2]),
        ((3, 3), 3, 2, [0, 0, 0, 1, 1, 1]),
    ],
)
def test_geometry(layers: tuple[int, ...], pipeline: int, depth: int, registers: list[int]) -> None:
    geometry = NetworkGeometry(layers, pipeline, turnaround=5)
    assert (geometry.stages, geometry.depth, geometry.read_latency) == (sum(layers), depth, 2 * depth + 5)
    assert [geometry.place(stage)[2] for stage in range(geometry.stages)] == registers
    with pytest.raises(ValueError, match="stage 9 of"):
        geometry.place(9)


def test_read_by_hand() -> None:
    """Pods 1 and 3 read the same word of bank 6, pod 5 one of bank 2: three cycles there, two at the bank, three back."""
    valid, bank, payload = requests(8, 20, (4, 1, 6, 70), (4, 3, 6, 70), (4, 5, 2, 71))
    bank_data = np.arange(20 * 8 * 2).reshape(20, 8, 2)
    trace = read_network(valid, bank, payload, bank_data, EIGHT)
    assert np.argwhere(trace["bank_valid"].value).tolist() == [[7, 2], [7, 6]]
    assert trace["bank_payload"].value[7, [2, 6]].tolist() == [71, 70]
    data = trace["data"].value.reshape(20, 8, 2)
    assert data[12, 1].tolist() == data[12, 3].tolist() == bank_data[9, 6].tolist()
    assert data[12, 5].tolist() == bank_data[9, 2].tolist()
    assert not trace["error"].value.any()
    first_known = {name: int(np.argmax(port.known.reshape(20, -1).all(axis=1))) for name, port in trace.items()}
    known = {"bank_valid": 0, "bank_payload": 3, "data": 8, "error": 0, "error_stage": 0, "error_port": 0}
    assert first_known == known


@pytest.mark.parametrize(
    ("words", "error"),
    [
        # One wire after stage 0 (wire 0), whatever the banks: conflict in the cycle of the requests, reported two later.
        ([(4, 0, 0, 7), (4, 1, 4, 7)], (6, 0, 0)),
        ([(4, 0, 3, 7), (4, 1, 1, 7)], (6, 0, 1)),
        # The same bank, another payload.
        ([(4, 0, 3, 7), (4, 1, 3, 6)], (6, 0, 1)),
        ([(4, 0, 3, 7), (4, 1, 3, 7)], None),
        # First together after stage 1, a register later; on wire 4 + 3.
        ([(4, 4, 3, 7), (4, 6, 7, 7)], (7, 1, 7)),
        # After the last stage the wire is the bank; that is the second layer.
        ([(4, 0, 5, 7), (4, 7, 5, 6)], (8, 2, 5)),
        ([(4, 0, 5, 7), (5, 7, 5, 6)], None),
        # The earlier in time counts, then the lower block, even if the conflict is in a later stage of it.
        ([(4, 0, 5, 7), (4, 7, 5, 6), (5, 0, 0, 7), (5, 1, 4, 7)], (7, 0, 0)),
        ([(4, 0, 0, 7), (4, 3, 0, 6), (5, 4, 0, 7), (5, 5, 0, 6)], (7, 1, 0)),
        ([(4, 0, 5, 7), (4, 7, 5, 6), (6, 4, 0, 7), (6, 5, 2, 7)], (8, 0, 4)),
        # Too late to be seen.
        ([(19, 0, 0, 7), (19, 1, 0, 6)], None),
        ([(17, 0, 0, 7), (17, 1, 0, 6)], (19, 0, 0)),
    ],
)
def test_first_conflict(words: list[tuple[int, int, int, int]], error: tuple[int, int, int] | None) -> None:
    trace = read_network(*requests(8, 20, *words), np.zeros((20, 8, 1), np.int64), EIGHT)
    begin, stage, port = error or (20, 0, 0)
    assert trace["error"].value.tolist() == [int(cycle >= begin) for cycle in range(20)]
    for name, value in (("error_stage", stage), ("error_port", port)):
        assert trace[name].value.tolist() == [value if cycle >= begin else 0 for cycle in range(20)]


def test_writes_never_merge_and_the_lower_wire_goes_on() -> None:
    words = requests(8, 12, (1, 2, 5, 9), (1, 3, 5, 9), (3, 1, 2, 4), (3, 0, 6, 3))
    trace = write_network(*words, EIGHT)
    assert trace["error"].value.tolist() == [0] * 3 + [1] * 9
    assert set(trace["error_port"].value[3:]) == {3}
    assert np.argwhere(trace["bank_valid"].value).tolist() == [[4, 5], [6, 6]]
    assert trace["bank_payload"].value[[4, 6], [5, 6]].tolist() == [9, 3]
    assert "data" not in trace


def test_crossbar_by_hand() -> None:
    """What would meet inside of a butterfly passes; of different words for one bank that of the lowest pod does."""
    crossbar = NetworkGeometry(layers=(2, 1), pipeline=1, turnaround=2, kind="crossbar")
    words = [(1, 0, 0, 7), (1, 1, 4, 7), (2, 6, 3, 5), (2, 2, 3, 5), (5, 6, 3, 5), (5, 2, 3, 4), (5, 7, 3, 4)]
    bank_data = np.arange(20 * 8).reshape(20, 8, 1)
    trace = read_network(*requests(8, 20, *words), bank_data, crossbar)
    assert np.argwhere(trace["bank_valid"].value).tolist() == [[4, 0], [4, 4], [5, 3], [8, 3]]
    assert trace["bank_payload"].value[[4, 4, 5, 8], [0, 4, 3, 3]].tolist() == [7, 7, 5, 4]
    assert trace["data"].value[[9, 9, 10], [0, 1, 6]].tolist() == bank_data[[6, 6, 7], [0, 4, 3], 0].tolist()
    assert trace["error"].value.tolist() == [0] * 7 + [1] * 13
    assert set(trace["error_stage"].value) == {0}
    assert set(trace["error_port"].value[7:]) == {3}


def test_what_invalid_words_show() -> None:
    """A wire that no valid word wants at its lower side shows the upper side: the last pod, all the way; in a crossbar, pod 0."""
    payload = np.arange(8).reshape(1, 8, 1).repeat(9, axis=0)
    valid, bank = np.zeros((9, 8), bool), np.zeros((9, 8), np.int64)
    valid[0, 0] = True
    shown = write_network(valid, bank, payload, EIGHT)["bank_payload"]
    assert shown.value[3].tolist() == [0] + [7] * 7
    assert shown.value[4].tolist() == [7] * 8
    crossbar = NetworkGeometry(layers=(3,), pipeline=1, kind="crossbar")
    assert not write_network(valid, bank, payload, crossbar)["bank_payload"].value.any()


def switch_by_switch(valid: list[bool], bank: list[int], payload: list[int], merges: bool) -> tuple[list, list, list, set]:
    """One moment of a butterfly of 2 x 2 switches: (valid, payload at each bank, bank that each pod hears, conflicts)."""
    ports = len(valid)
    wires = list(zip(valid, bank, payload, strict=True))
    routes, conflicts = [], set()
    for s in range(ports.bit_length() - 1):
        routes.append([word[1] >> s & 1 for word in wires])
        out: list = [None] * ports
        for low in (wire for wire in range(ports) if not wire >> s & 1):
            high = low | 1 << s
            for way, wire in enumerate((low, high)):
                asks = [word[0] and word[1] >> s & 1 == way for word in (wires[low], wires[high])]
                same = wires[low][1] >> s == wires[high][1] >> s and wires[low][2] == wires[high][2]
                if all(asks) and not (merges and same):
                    conflicts.add((s, wire))
                taken = wires[low] if asks[0] else wires[high]
                out[wire] = (any(asks), *taken[1:])
        wires = out
    heard = list(range(ports))
    for s in reversed(range(len(routes))):
        heard = [heard[wire & ~(1 << s) | routes[s][wire] << s] for wire in range(ports)]
    return [word[0] for word in wires], [word[2] for word in wires], heard, conflicts


@pytest.mark.parametrize("merges", [False, True])
@pytest.mark.parametrize("stages", [1, 2, 4])
def test_switch_by_switch(stages: int, merges: bool) -> None:
    """Legal and illegal words alike."""
    ports, cycles = 1 << stages, 60
    rng = np.random.default_rng(stages)
    geometry = NetworkGeometry(layers=(stages,), pipeline=stages, turnaround=1, report=1)
    for load in (0.2, 1.0):
        valid = rng.random((cycles, ports)) < load
        bank = rng.integers(0, ports, (cycles, ports))
        payload = rng.integers(0, 2, (cycles, ports, 1))
        bank_data = rng.integers(0, 256, (cycles, ports, 1))
        if merges:
            trace = read_network(valid, bank, payload, bank_data, geometry)
        else:
            trace = write_network(valid, bank, payload, geometry)
        first: tuple[int, int, int] | None = None
        for t in range(cycles - 3):
            arrived, words, heard, conflicts = switch_by_switch(
                valid[t].tolist(), bank[t].tolist(), payload[t, :, 0].tolist(), merges
            )
            assert trace["bank_valid"].value[t + 1].tolist() == arrived
            assert trace["bank_payload"].value[t + 1].tolist() == words
            if merges:
                assert trace["data"].value[t + 3].tolist() == bank_data[t + 2, heard, 0].tolist()
            if conflicts and first is None:
                first = (t + 1, *min(conflicts))
        if first:
            assert int(np.argmax(trace["error"].value)) == first[0]
            assert (trace["error_stage"].value[-1], trace["error_port"].value[-1]) == first[1:]


def test_lanes_keep_their_type() -> None:
    valid, bank, payload = requests(8, 12, (1, 0, 3, 1))
    bank_data = np.random.default_rng(0).integers(0, 256, (12, 8, 5)).astype(np.uint8)
    trace = read_network(valid, bank, payload.astype(np.uint8), bank_data, EIGHT)
    assert trace["data"].value.dtype == trace["bank_payload"].value.dtype == np.uint8
    assert trace["data"].value.shape == trace["data"].known.shape == (12, 40)


def test_wrong_number_of_ports_is_refused() -> None:
    with pytest.raises(ValueError, match="a network of 3 stages has 8 ports, got 4"):
        write_network(*requests(4, 2), EIGHT)
