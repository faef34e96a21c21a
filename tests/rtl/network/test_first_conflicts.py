"""The record of the first conflict: of each stage of a butterfly; of a crossbar, after each of many resets, which bank's it is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.rtl.network.crossbar import ReadCrossbar, WriteCrossbar
from podweave.tb.benches.block_bench import BlockBench, BlockRun
from tests.rtl.side_by_side import SideBySide

from .test_network import CASES, Case, bench, expected, filled, wires

pytestmark = pytest.mark.more

# Blocks that the lockstep has, too.
READ, WRITE = (next(c for c in CASES if c.block and c.kind == "crossbar" and (c.data is not None) == way) for way in (True, False))
CYCLES = 16000


def conflicts(valid: NDArray, route: NDArray, payload: NDArray | None) -> NDArray[np.bool_]:
    """(cycles, banks): several ports ask for the bank, not all for the same word."""
    cycles, ports = valid.shape
    found = np.zeros((cycles, ports), bool)
    for bank in range(ports):
        asks = valid & (route == bank)
        if payload is None:
            found[:, bank] = asks.sum(axis=1) > 1
        else:
            high = np.where(asks, payload, -1).max(axis=1)
            low = np.where(asks, payload, 1 << 30).min(axis=1)
            found[:, bank] = asks.any(axis=1) & (high != low)
    return found


def test_first_conflict_after_each_reset() -> None:
    rng = np.random.default_rng(4)
    lanes: dict[str, tuple[int, int, bool]] = {}
    for key, way, case in (("read", "request", READ), ("write", "write", WRITE)):
        bits, count = case.payload
        lanes[f"{key}_{way}_valid"] = lanes[f"{key}_bank_valid"] = (1, case.ports, False)
        lanes[f"{key}_{way}_route"] = (case.layers[0], case.ports, False)
        lanes[f"{key}_{way}_payload"] = lanes[f"{key}_bank_payload"] = (bits, case.ports * count, False)
    assert READ.data is not None
    lanes |= dict.fromkeys(("read_bank_data", "read_data"), (READ.data[0], READ.ports * READ.data[1], False))
    made = {"read": READ.made(), "write": WRITE.made()}
    assert (type(made["read"]), type(made["write"])) == (ReadCrossbar, WriteCrossbar)
    both = BlockBench.of(SideBySide(made), lanes, random_initial_state=True, depth=CYCLES)
    given = {p.name: rng.integers(0, 1 << p.width, (CYCLES, p.lanes) if p.lanes else CYCLES) for p in both.inputs}
    given["clear"] = np.arange(CYCLES) % 3 == 0
    # Few ports ask, so that there are cycles with no conflict, with one, and with some.
    rate = rng.choice([0.2, 0.4, 0.6, 0.9], CYCLES)[:, None]
    given["read_request_valid"] = rng.random((CYCLES, READ.ports)) < rate
    given["write_write_valid"] = rng.random((CYCLES, WRITE.ports)) < rate
    # Equal words, and words that differ in one bit.
    near = rng.integers(0, 1 << READ.payload[0], (CYCLES, 1)) ^ 1 << rng.integers(0, READ.payload[0], (CYCLES, READ.ports))
    same = rng.random((CYCLES, READ.ports)) < rng.choice([0.5, 0.9], (CYCLES, 1))
    given["read_request_payload"] = np.where(same, near[:, :1], near)
    observed = both.run(given)
    found = {
        "read": conflicts(given["read_request_valid"], given["read_request_route"], given["read_request_payload"]),
        "write": conflicts(given["write_write_valid"], given["write_write_route"], None),
    }
    for key, here in found.items():
        error, bank = np.zeros(CYCLES, bool), np.zeros(CYCLES, np.int64)
        for cycle in range(1, CYCLES):
            before = cycle - 1
            if given["clear"][before]:
                continue
            error[cycle], bank[cycle] = error[before], bank[before]
            if not error[before]:
                error[cycle], bank[cycle] = here[before].any(), int(here[before].argmax())
        np.testing.assert_array_equal(observed[f"{key}_error"][1:], error[1:])
        np.testing.assert_array_equal(observed[f"{key}_error_port"][error], bank[error])
        assert 0.3 < error[given["clear"]].mean() < 0.95
        # Each bank was the first one, and there were others beside it.
        assert set(bank[error]) == set(range(here.shape[1]))
        assert (here.sum(axis=1) > 1).sum() > 100


@pytest.mark.parametrize("case", [case for case in CASES if case.block and case.kind == "butterfly"], ids=str)
def test_first_conflict_of_each_stage_by_hand(case: Case) -> None:
    """Two pods that are apart in one bit meet behind the stage of that bit, on the lower pod's wire to the low bits of the bank."""
    stages, rng, cycles, at, given, places = case.layers[0], np.random.default_rng(6), 40, 10, [], []
    for stage in range(stages):
        # Banks that are the same in as many bits as there are stages before, and this one; of the last stage the same bank.
        for low in {0, stage, (1 << stage + 1) - 1}:
            high, pods = (low + (2 << stage)) % case.ports, [case.ports - 1 - (1 << stage), case.ports - 1]
            valid, bank = np.zeros((cycles, case.ports), bool), np.zeros((cycles, case.ports), np.int64)
            valid[at, pods], bank[at, pods] = True, (low, high)
            # Words that meet later, behind the first stage, change nothing.
            valid[at + 6, [0, 1]], bank[at + 6, [0, 1]] = True, 0
            stimulus = filled(rng, case, valid, bank)
            # Equal words for one bank would merge.
            payload = stimulus[f"{case.way}_payload"].reshape(cycles, case.ports, -1)
            payload[[at, at + 6], [pods[0], 0], 0] ^= 1
            wire = dict(wires(pods[0], low, stages))[stage]
            assert wire == dict(wires(pods[1], high, stages))[stage]
            given.append(stimulus)
            places.append((stage, wire))
    ran = bench(case).run_all([BlockRun(stimulus) for stimulus in given], seed=1)
    for stimulus, place, observed in zip(given, places, ran, strict=True):
        bench(case).check(expected(case, stimulus), observed)
        assert observed["error"][-1]
        assert (observed["error_stage"][-1], observed["error_port"][-1]) == place
