"""Jobs of the collective engine on load ports of other managers than the first are seen, and nothing else is."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from podweave.golden.cycle.ports import PortTrace
from podweave.rtl.link.stray_jobs import StrayJobs
from podweave.spec.config_parts import PrefetchConfig
from podweave.spec.links_config import LinksConfig
from podweave.spec.load_port import HostSelect
from podweave.spec.presets import load_config
from podweave.tb.benches.block_bench import BlockBench

CHIP = load_config("chip2x4").replace(pods=4, banks=4)
SELECT = 4
"""Bits of a code of `HostSelect`."""


@functools.cache
def bench(managers: int) -> BlockBench:
    config = dataclasses.replace(CHIP, prefetch=PrefetchConfig(managers=managers), links=LinksConfig(flit_bits=64))
    ports = managers - 1
    lanes = {"host_valid": (1, ports, False), "host_write": (1, ports, False), "host_select": (SELECT, ports, False)}
    return BlockBench.of(StrayJobs(config), lanes, random_initial_state=True)


@pytest.mark.parametrize("managers", [2, 4])
def test_lockstep(managers: int) -> None:
    cycles, rng = 2000, np.random.default_rng(managers)
    valid, write = (rng.random((cycles, managers - 1)) < rate for rate in (0.3, 0.5))
    select = rng.choice(list(HostSelect), (cycles, managers - 1))
    # Either store, and one whose code has most of their bits, are all that there is for a while.
    for first, choices in ((500, [HostSelect.SEND_STORE]), (700, [HostSelect.RECEIVE_STORE]), (900, [8, 14, 15, 4, 5])):
        select[first : first + 200] = rng.choice(choices, (200, managers - 1))
    stray = (valid & write & ((select == 12) | (select == 13))).any(axis=1)
    expected = np.concatenate([[0], stray[:-1].astype(np.int64)])
    known = np.arange(cycles) > 0
    observed = bench(managers).run({"host_valid": valid, "host_write": write, "host_select": select})
    bench(managers).check({"misdirected": PortTrace(expected, known)}, observed)
    assert 50 < expected.sum() < cycles / 2
