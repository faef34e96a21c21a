"""The read and write channels of an engine alone: bursts of any length at any address, and what their responses say."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import Out
from numpy.typing import NDArray

from podweave.rtl.parts.blocks import Block, place
from podweave.rtl.parts.wired_block import WiredBlock
from podweave.rtl.prefetch.engine_words import ReadClass, burst_layout, fault_layout
from podweave.rtl.prefetch.read_tracker import ReadTracker
from podweave.rtl.prefetch.store_path import StorePath
from podweave.spec.descriptors import TAG_WIDTH, PrefetchError
from podweave.spec.layout import Layout
from podweave.tb.benches.block_bench import BlockBench
from podweave.tb.cases.prefetch_cases import engine_config
from podweave.tb.cases.prefetch_engines import ENGINES

pytestmark = pytest.mark.more

CONFIG = engine_config(address_width=34, **ENGINES["64_small"])
BURSTS = ENGINES["64_small"]["outstanding"]
CYCLES = 8000
Values = dict[str, NDArray[Any]]


class Channels(WiredBlock):
    """Both, side by side."""

    kind = "channels"

    def __init__(self) -> None:
        self.parts: dict[str, Block] = {"read": ReadTracker(CONFIG), "write": StorePath(CONFIG)}
        super().__init__(
            {f"{key}_{name}": member for key, part in self.parts.items() for name, member in part.signature.members.items()}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for key, part in self.parts.items():
            ports = place(m, key, part)
            for name, member in part.signature.members.items():
                outer = getattr(self, f"{key}_{name}")
                m.d.comb += outer.eq(ports[name]) if member.flow is Out else ports[name].eq(outer)
        return m


def packed(layout: Layout, **values: int) -> int:
    return sum(int(values[field.name]) << layout.offset(field.name) for field in layout.fields)


class Queue:
    """Words are at the head two cycles after they were pushed, or one after the word before was taken."""

    def __init__(self) -> None:
        self.words: deque[tuple[int, Any]] = deque()

    def head(self, cycle: int) -> Any:
        return self.words[0][1] if self.words and self.words[0][0] + 2 <= cycle else None


def reads(rng: np.random.Generator, given: Values, seen: Values) -> int:
    """Bursts of beats, errors among them; now and then all are forgotten. Returns the errors."""
    bursts, faults = Queue(), 0
    before = {"valid": 0, "response": 0, "last": 0}
    for cycle in range(CYCLES):
        burst = bursts.head(cycle)
        valid = int(before["valid"] and burst is not None)
        seen["beat_valid"][cycle] = valid
        ended = valid and before["last"]
        seen["ended"][cycle] = ended
        seen["fault_valid"][cycle] = 0
        if valid:
            wrong = before["response"] >> 1
            seen["beat_last"][cycle], seen["beat_failed"][cycle] = before["last"], wrong
            seen["beat_class"][cycle], seen["beat_ring"][cycle] = burst["read_class"], burst["ring"]
            seen["beat_address"][cycle] = burst["address"]
            if wrong and burst["read_class"] != ReadClass.DESCRIPTOR:
                code = PrefetchError.READ_DECERR if before["response"] & 1 else PrefetchError.READ_SLVERR
                what = {name: burst[name] for name in ("ring", "tag", "address")}
                seen["fault_valid"][cycle] = 1
                seen["fault"][cycle] = packed(fault_layout(CONFIG), code=code, **what)
                faults += 1
        clear = int(rng.random() < 0.005)
        new = {"read_class": int(rng.integers(3)), "ring": int(rng.integers(2)), "tag": int(rng.integers(1 << TAG_WIDTH))}
        new["address"] = int(rng.integers(1 << 34))
        issued = int(len(bursts.words) < BURSTS and rng.random() < 0.5)
        given["clear"][cycle], given["issued"][cycle] = clear, issued
        given["burst"][cycle] = packed(burst_layout(CONFIG), **new)
        before = {"valid": int(rng.random() < 0.7), "response": int(rng.choice([0, 0, 1, 2, 3])), "last": int(rng.random() < 0.4)}
        for name, value in before.items():
            given[{"valid": "m_axi_rvalid", "response": "m_axi_rresp", "last": "m_axi_rlast"}[name]][cycle] = value
        if ended:
            bursts.words.popleft()
        if issued:
            bursts.words.append((cycle, new))
        if clear:
            bursts.words.clear()
    return faults


def writes(rng: np.random.Generator, given: Values, seen: Values) -> int:
    """Bursts of up to 256 beats; responses of any kind for those issued. Returns the errors."""
    lengths, addresses, faults = Queue(), Queue(), 0
    valid = last = sent = beat = answered = response = 0
    ready_rate = 0.5
    for cycle in range(CYCLES):
        if cycle % 200 == 0:
            ready_rate = float(rng.choice([0.3, 0.9, 1.0]))
        ready = int(rng.random() < ready_rate)
        ring, tag = int(rng.integers(2)), int(rng.integers(1 << TAG_WIDTH))
        given["m_axi_wready"][cycle], given["ring"][cycle], given["tag"][cycle] = ready, ring, tag
        length, address = lengths.head(cycle), addresses.head(cycle)
        pop = int(length is not None and (not valid or ready))
        ended = int(answered and address is not None)
        seen["pop"][cycle], seen["ended"][cycle], seen["m_axi_wvalid"][cycle], seen["beat"][cycle] = pop, ended, valid, beat
        if valid:
            seen["m_axi_wlast"][cycle] = last
        seen["fault_valid"][cycle] = int(ended and response >> 1)
        if ended and response >> 1:
            code = PrefetchError.WRITE_DECERR if response & 1 else PrefetchError.WRITE_SLVERR
            seen["fault"][cycle] = packed(fault_layout(CONFIG), code=code, ring=ring, tag=tag, address=address)
            faults += 1
        beat = int(valid and ready)
        valid = int(pop or (valid and not ready))
        if pop:
            last = int(sent == length)
            sent = 0 if last else sent + 1
            if last:
                lengths.words.popleft()
        if ended:
            addresses.words.popleft()
        answered, response = int(rng.random() < 0.05), int(rng.integers(4))
        given["m_axi_bvalid"][cycle], given["m_axi_bresp"][cycle] = answered, response
        # Nothing is forgotten of what is under way.
        given["clear"][cycle] = int(cycle == 0 or (not lengths.words and not addresses.words and not valid and rng.random() < 0.2))
        issued = int(not given["clear"][cycle] and max(len(lengths.words), len(addresses.words)) < BURSTS and rng.random() < 0.5)
        length, address = int(rng.choice([0, 1, 7, rng.integers(256)])), int(rng.integers(1 << 34))
        given["issued"][cycle], given["length"][cycle], given["address"][cycle] = issued, length, address
        if issued:
            lengths.words.append((cycle, length))
            addresses.words.append((cycle, address))
    return faults


def test_channels() -> None:
    bench = BlockBench.of(Channels(), {}, random_initial_state=True, depth=CYCLES)
    rng = np.random.default_rng(9)
    given = {port.name: rng.integers(0, 1 << min(port.width, 62), CYCLES) for port in bench.inputs}
    seen = {port.name: np.full(CYCLES, -1, np.int64) for port in bench.outputs}
    for key, drive in (("read", reads), ("write", writes)):
        mine = [
            {name.removeprefix(f"{key}_"): each for name, each in ports.items() if name.startswith(key)} for ports in (given, seen)
        ]
        assert drive(rng, *mine) > 50
    # What passes through.
    seen["read_m_axi_rready"][:] = seen["write_m_axi_bready"][:] = 1
    seen["read_beat_data"][1:] = given["read_m_axi_rdata"][:-1]
    seen["write_m_axi_wdata"], seen["write_m_axi_wstrb"] = given["write_data"], given["write_strobe"]
    observed = bench.run(given)
    for name, expected in seen.items():
        wrong = np.flatnonzero((expected >= 0) & (observed[name] != expected))
        assert not len(wrong), f"{name} in cycle {wrong[0]}: {observed[name][wrong[0]]:#x}, not {expected[wrong[0]]:#x}"
