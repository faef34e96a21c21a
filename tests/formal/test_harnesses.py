"""Every harness of a proof, simulated: its rules hold, what they are about happens, and its planted faults break them.

Solvers say it for every input (`podweave prove`); random ones say in a second whether harness and block still agree.
"""

from __future__ import annotations

import pytest

from podweave.formal.blocks import collective, collective_words, gate, prefetch, walker
from podweave.formal.catalogue import PROPERTIES
from podweave.formal.faults import planted
from podweave.formal.harness import Harness
from podweave.formal.property import Property
from podweave.rtl.parts.job_queue import JobQueue
from podweave.rtl.prefetch.engine_words import fault_layout, held_layout, item_layout, walk_layout
from podweave.spec.layout import Field, Layout
from podweave.spec.links import NO_COLLECTIVE, head_layout, receive_job_layout, send_job_layout
from tests.formal.simulated import Usual, simulate

_CYCLES, _MORE = 500, 3000
"""Of a harness as it is, at least; with a planted fault."""
_JOB: Usual = {"start": (1,), "next_time": (1, 1, 1, 0), "run": (1,), "halted": (0,), "head_valid": (1,)}
_BANKS: Usual = {"x_bank": (0, 1), "p_bank": (0, 1), "w_bank": (0, 1), "x_base": (0, 1, 3, 4), "p_base": (0, 1, 3, 4)}
_LOOPS: Usual = {f"n{i}": (1, 2, 2) for i in range(4)} | {f"{bank}_step{i}": (1, 0, -1) for bank in "xp" for i in range(4)}
_TILES: Usual = {"tiles": (1, 1, 2, 3), "period": (1, 2, 2, 3, 4, 8)}
_STREAM: Usual = {
    "swap": (1,),
    "accumulate": (0, 1, 2),
    "emit": (0, 1, 2),
    "accumulator_base": (0,),
    "x_tile_step": (0, 1),
    "x_turn": (0,),
}
_ITEM = item_layout(walker.CONFIG)
_WALK, _HELD, _FAULT = walk_layout(prefetch._CONFIG), held_layout(gate._CONFIG), fault_layout(gate._CONFIG)


def _word(layout: Layout, **fields: int) -> int:
    widths = {field.name: field.width for field in layout.fields}
    return sum((value & (1 << widths[name]) - 1) << layout.offset(name) for name, value in fields.items())


_WALKS = tuple(
    _word(_WALK, address=address, run_bytes=size, store=store, n1=2, n2=1, stride1=64)
    for address in (0x0FF8, 0x0FF0, 0x1000)
    for size in (8, 16, 64)
    for store in (0, 1)
)
# A word of two bytes at 64 or 0, whose runs go back by 32 and on by 64.
_TRIPS: Usual = {"head_valid": (1,), "clear": (0,), **{f"more_n{i}": (1, 1, 0) for i in range(3)}}
_LEGAL: Usual = {
    **{"kind": (1,), "select": (0,), "broadcast": (0,), "unit": (0,), "reserved": (0,), "failed": (0,), "base": (0,)},
    **{"address": (64,), "memory": (1 << 12,), "stride1": (-32,), "stride2": (64,), **{f"step{i}": (0,) for i in range(3)}},
}
# Heads: a NOP, a load and a store of an X bank, a load of a W bank, one that is refused.
_HEADS = tuple(
    _word(_HELD, tag=1, after=0, words=4, last=1, **fields)
    for fields in ({"kind": 0}, {"kind": 1, "select": 0}, {"kind": 2, "select": 0}, {"kind": 1, "select": 1}, {"error": 8})
)
_SEND, _RECEIVE = send_job_layout(collective.CONFIG), receive_job_layout(collective.CONFIG)
_SEND_FEW, _RECEIVE_FEW = (collective.few(layout, collective.CHOSEN[layout.name]) for layout in (_SEND, _RECEIVE))
_ONCE = {f"n{i}": 1 for i in range(3)}
# Collective 0, and then 5: two words are sent of a job, and one or two are received, of a job each.
_COLLECTIVES: Usual = {
    "send_job_0": tuple(_word(_SEND_FEW, words=words, last=1, next=5) for words in (2, 2, 0)),
    "send_job_1": tuple(_word(_SEND_FEW, words=words, last=1, next=NO_COLLECTIVE) for words in (0, 1)),
    "receive_job_0": tuple(_word(_RECEIVE_FEW, words=words, last=words != 2) for words in (1, 2, 2, 2, 0)),
    "receive_job_1": tuple(_word(_RECEIVE_FEW, words=words) for words in (0, 1)),
    "send_job_0_rest": (_word(_SEND, **_ONCE | {"n0": 2}),),
    "send_job_1_rest": (_word(_SEND, **_ONCE, id=5),),
    "receive_job_0_rest": (_word(_RECEIVE, **_ONCE),),
    "receive_job_1_rest": tuple(_word(_RECEIVE, **_ONCE, id=id) for id in (0, 5)),
    **{"first": (0, 0, 0, 0, 0, 1, NO_COLLECTIVE), "timeout": (0, 0, 7, 5), "loads": (1,), "begins": (1,), "start": (1, 1, 0)},
    **dict.fromkeys(("stop", "crc_error", "overflow", "neighbour_failed", "misdirected"), (0, 0, 0, 1)),
    # Heads of another length, kind and id, where anything may come.
    "received_data": tuple(_word(head_layout(), **head) for head in ({"words": 3}, {"kind": 1, "words": 1}, {"id": 3, "words": 1})),
    **{"received_valid": (1, 1, 0), "send_ready": (1, 1, 0), "odd": (0,) * 60 + (0xF9,) * 9 + (0xFA,) * 2 + (0xFC,) * 12 + (0xFF,)},
}
_NO_WORDS, _LENGTH = collective.few(_SEND, collective_words.NO_WORDS), collective.few(_RECEIVE, collective_words.LENGTH)
_SENT, _RECEIVED = (collective.few(layout, collective_words.WHOLE[layout.name]) for layout in (_SEND, _RECEIVE))


def _walks(layout: Layout, *walks: dict[str, int]) -> tuple[int, ...]:
    return tuple(_word(layout, **_ONCE | walk) for walk in walks)


# The last word of the first one is not in its bank.
_BEYOND, _DOWN = (
    {"n0": 2, "words": 2, "last": 1, "address": 3, "step0": 1},
    {"n0": 2, "words": 2, "last": 1, "address": 1, "step0": -1},
)
_SIDEWAYS = {"n1": 3, "words": 3, "last": 1, "kind": 1, "unit1": 1, "step1": 1}
_OUTER = {"n2": 2, "unit2": 1, "words": 2, "last": 1, "step2": 2}
_BACK, _FAR = {"n1": 2, "address": 3, "unit": 1, "unit1": -1}, {"n0": 2, "address": 3, "unit": 1, "step0": -3}
_ONE_RUN: Usual = {**_COLLECTIVES, "first": (0, 0, 0, 0, 0, 0, 1), "timeout": (0,)}
# Items: a NOP, loads and stores of words of 8 and 2 bytes, from the begin of a beat and across two.
_ITEMS = tuple(
    _word(_ITEM, kind=kind, select=select, n0=n0, n1=n1, n2=1, offset=offset, stride1=3)
    for kind in (0, 1, 1, 2)
    for select, n0 in ((2, 1), (0, 2))
    for n1 in (1, 2)
    for offset in (0, 7)
)
# Runs of words of 8 + 8 + 2 and 2 bytes, and of 8 and 2, one of which is followed.
_LOADS, _STORES = (
    tuple(
        _word(_ITEM, kind=kind, select=select, n0=n0, n1=n1, n2=n2, offset=offset, stride1=3, base=7, step1=5, step2=9)
        for select, n0, n1, n2, offset in items
    )
    for kind, items in ((1, ((6, 1, 2, 1, 3), (0, 3, 1, 2, 4))), (2, ((2, 1, 2, 1, 3), (0, 2, 2, 1, 7), (2, 2, 1, 1, 0))))
)
_FOLLOW: Usual = {
    **{
        "begin_item": (0, 1),
        "stopped": (0,) * 9 + (1,),
        "clear": (0,),
        "credit": (1, 1, 0),
        "item_valid": (1,),
        "available": (0, 1),
    },
    **{
        "chosen": (1,),
        "chosen_item": (1,),
        "chosen_beat": (1, 1, 0),
        "chosen_piece": (0, 1),
        "bit": (0, 13, 56),
        "byte": (0, 1, 7),
    },
}
_LOAD: Usual = {"item": _LOADS, "followed_item": _LOADS, "beat_valid": (0, 1), "beat_failed": (0,) * 20 + (1,)}
_STORE: Usual = {"item": _STORES, "followed_item": _STORES, "beat_valid": (0,), "write_pop": (0, 1)}


def _run(kind: int, select: int, *offsets: int) -> Usual:
    items = tuple(_word(_ITEM, kind=kind, select=select, n0=2, n1=1, n2=1, offset=offset, step0=1) for offset in offsets)
    return {"item": items, "followed_item": items, "begin_item": (1,), "beat_valid": (0, 0, kind & 1), "bit": (0, 40, 56)}


_USUAL: dict[str, Usual] = {
    "collective_engine.receive": {
        **_ONE_RUN,
        "receive_job_0": _walks(_RECEIVED, _BEYOND, _DOWN, _SIDEWAYS, {"unit": 1, "words": 3, "add": 1}, _OUTER | {"add": 1}),
        "receive_job_1": _walks(_RECEIVED, _BACK | {"add": 1}, _FAR),
        "send_job_0": (_word(_NO_WORDS, last=1), _word(_NO_WORDS, last=1, words=2)),
        "send_job_0_rest": _walks(_SEND, {"n0": 2, "words": 2}),
        "odd": (0,) * 60 + (0xF9,) * 3 + (0xFA,) * 6 + (0xFC, 0xFF),
        "received_kind": (0, 1),
    },
    "collective_engine.send": {
        **_ONE_RUN,
        "send_job_0": _walks(
            _SENT,
            *(_BEYOND, _DOWN | {"follows": 1}, _SIDEWAYS, {"unit": 1, "words": 3, "follows": 1, "needs": 1}, _OUTER),
            *({"n0": words, "words": words, "step0": 1, "last": 1, "follows": 1} for words in (2, 3)),
        ),
        "send_job_1": _walks(_SENT, _BACK, _FAR | {"follows": 1}),
        "receive_job_0": (_word(_LENGTH, words=2, last=1),),
        "receive_job_0_rest": _walks(_RECEIVE, {"n0": 2}),
        "odd": (0,) * 80 + (0xF9,) * 3 + (0xFA, 0xFC, 0xFF),
        **{"watched": (0, 1, 1), "part": (1,), "send_ready": (1,)},
    },
    "collective_engine": _COLLECTIVES,
    "collective_engine.errors": {
        **_COLLECTIVES,
        "receive_job_0": (_word(_RECEIVE_FEW, words=1),),
        "odd": (0,) * 60 + (0xF9,) * 9 + (0xFA,) * 2 + (0xFC,) * 20 + (0xFF,),
    },
    **{"piece_walker.loads": {**_FOLLOW, **_LOAD}, "piece_walker.stores": {**_FOLLOW, **_STORE}},
    **{
        f"realigner.loads_{size}_bytes": {**_FOLLOW, **_LOAD, **run}
        for size, run in ((2, _run(1, 0, 6, 7)), (8, _run(1, 2, 5) | {"bit": (40, 56)}))
    },
    "realigner.stores_8_bytes": {**_FOLLOW, **_STORE, **_run(2, 2, 3, 7)},
    "realigner": {
        **{"item": _ITEMS, "begin_item": (0, 1), "stopped": (0,) * 9 + (1,), "clear": (0,) * 50 + (1,), "credit": (1, 1, 0)},
        **{"beat_valid": (0, 1, 1), "beat_failed": (0, 0, 1), "write_pop": (0, 1)},
    },
    "descriptor_gate": {
        **{"head": tuple(one | other << _HELD.width for one in _HEADS for other in _HEADS), "head_valid": (3, 3, 1, 2)},
        **{
            "held": (3,),
            "broken": (0,) * 9 + (1, 2),
            "epochs_done": (0, 1, 1),
            "gap": (1, 1, 0),
            "enable": (0, 1),
            "stopped": (0,),
        },
        **{"cap": (3, 4, 8, 0), "walking": (0, 0, 1), "item_ended": (0, 1), "store_ended": (0, 1), "clear": (0,) * 30 + (1,)},
        **{"cancel_valid": (0,) * 20 + (1,), "cancel_tag": (1, 2), "tag": (1,), "fault_valid": (0,) * 20 + (1,), "stopped": (0,)},
        "fault": tuple(_word(_FAULT, ring=ring, tag=tag) for ring in (0, 1) for tag in (1, 2)),
    },
    "descriptor_reader": {
        **{"base": (64 | 128 << 32, 0, 32), "size": (3 | 2 << 32, 2 | 3 << 32), "tail": (7 | 5 << 32,), "memory": (128, 192, 256)},
        **{"memory_bytes": (128, 192, 256), "enable": (1,), "clear": (0,) * 7 + (1,), "pop": (0, 0, 1, 2, 3)},
        **{"at_demand": (1,), "tail_demand": (7,), "tail_prefetch": (7,)},
    },
    "descriptor_check.memory": {**_TRIPS, **_LEGAL, "address": (64, 64, 0), "memory": (99, 100, 100, 1 << 12)},
    "descriptor_check.target": {
        **{**_TRIPS, **_LEGAL, "kind": (1, 2), "select": (0, 0, 3), "broadcast": (0, 1), "base": (0, 0, 1)},
        **{"step0": (4,), "step1": (-4, 1), "step2": (-4, 1)},
    },
    "descriptor_check.rules": {**_TRIPS, **_LEGAL, "kind": (0, 1, 2, 3), "reserved": (0, 0, 1), "failed": (0, 0, 1)},
    # Programs of which words are not all different, and those words.
    "feeder": {
        **{"program": (0x5C54, 0x8C54, 0x8585), "host_data": (4, 5, 8, 12)},
        **{"host_write": (1,), "fill": (1,), "rewind": (0, 0, 0, 1), "job_ready": (1, 1, 0)},
    },
    "p_bank": {
        **{"row": (1,), "host_address": (1,), "read_address": (1,), "write_address": (0b0101,), "write_data": (0b001001,)},
        **{"write_valid": (0, 1, 2), "write_accumulate": (0, 3)},
    },
    "load_engine": {**_JOB, **_BANKS, **_TILES, "rows": (1, 2), "w_base": (0, 1, 3, 4), "w_step": (1, -1)},
    "stream_engine": {**_JOB, **_BANKS, **_TILES, **_LOOPS, **_STREAM},
    "post_engine": {**_JOB, **_BANKS, **_LOOPS, "parameters": (0, 1), "table": (0,), "slice": (0,), "slot": (0,)},
    "burst_issuer": {"walk": _WALKS, "request_address": (0x0FC0, 0x1000), "stopped": (0,), "clear": (0,), "stored": (1,)},
    # EPOCHS and CONTROL; NODE_DATA, EPOCHS, ID, CYCLES, and nothing.
    "csr": {
        **{"s_axil_awaddr": (0x30, 0x30, 0x20), "s_axil_araddr": (0x54, 0x30, 0, 0x100, 0xFF0)},
        **{"s_axil_wdata": (0x00FF00AA, 0x00FF00AA, 1), "s_axil_wstrb": (5, 15, 1), "status_busy": (0, 0, 0, 1)},
    },
    "prefetch_engine": {
        **{f"{ring}_{what}": value for ring in ("demand", "prefetch") for what, value in (("base", (64,)), ("tail", (1, 2)))},
        **{"m_axi_arready": (0, 1), "m_axi_rvalid": (1,), "m_axi_rlast": (0, 1), "stop": (0,)},
    },
    "run_control": {
        **{f"{ring}_base": (0, 64) for ring in ("demand", "prefetch")},
        **{f"{ring}_size": (1, 2) for ring in ("demand", "prefetch")},
        **{f"{ring}_complete": (0, 1, 2, 3) for ring in ("demand", "prefetch")},
        **{"epochs": (0, 1, 2), "start": (0, 1), "abort": (0,) * 15 + (1,), "quiet": (1,), "chip_busy": (0, 0, 1)},
        **dict.fromkeys(("chip_error", "engine_error", "soft_reset", "clear"), (0,) * 15 + (1,)),
    },
    "statistics_network.4_nodes": {
        **{f"{what}_{i}": values for i in range(4) for what, values in (("value", (1, 1, 0, -1)), ("element", (0, 1, 2, 3)))},
        **{"valid": (15,), "level": (0xAA,), "statistic": (0x55, 0xAA)},
    },
    "write_butterfly": {"write_valid": (12, 15, 3, 6, 0)},
    "link_port": {"run": (1, 2), "link_rx_user": (4, 5, 6, 8, 9, 10), "start": (0,) * 7 + (1,), "link_tx_credit_run": (1, 2)},
}
"""By block, what inputs, fields of them and constants mostly are, where rules are about few of all values."""


_TRACES: dict[str, tuple[int, ...]] = {"descriptor_check": (15,)}
"""By block, cycles from a reset to the next one, if all there is to see is in the first of them."""


# Harnesses of 8 ports are those of 4 by the same lines, and take a minute to elaborate.
_SIMULATED = [each for each in PROPERTIES if not each.name.endswith("8_ports")]
# Of wide words, or of products, which Amaranth's simulator takes seconds over.
_LONG = {
    *("descriptor_gate.conditions", "descriptor_gate.errors", "realigner.loads_8_bytes", "realigner.stores_8_bytes"),
    *("collective_engine.receive", "collective_engine.send"),
}
# Of a second or more.
_MORE_OF_THEM = {
    *("read_butterfly.4_ports", "csr.axi_lite", "prefetch_engine.bus", "descriptor_reader.ends", "realigner.loads_2_bytes"),
    *("descriptor_reader.order", "row_registers.readiness", "write_butterfly.4_ports", "statistics_network.4_nodes"),
    *("realigner.ends", "realigner.room", "collective_engine.ends", "collective_engine.errors", "link_port.receive"),
}
_MARKS = dict.fromkeys(_LONG, (pytest.mark.campaign,)) | dict.fromkeys(_MORE_OF_THEM, (pytest.mark.more,))
_CASES = [pytest.param(each, marks=_MARKS.get(each.name, ()), id=each.name) for each in _SIMULATED]


@pytest.mark.parametrize("prop", _CASES)
def test_rules_hold_are_not_empty_and_find_what_is_planted(prop: Property) -> None:
    usual = _USUAL.get(prop.name, _USUAL.get(prop.block))
    options = {"traces": _TRACES[prop.block]} if prop.block in _TRACES else {}
    seen = simulate(prop, _CYCLES, 1, usual, **options)
    assert seen.broken == []
    assert seen.cycles >= _CYCLES
    assert [says for says, times in seen.reached.items() if not times] == []
    # What always happens is no cover.
    assert [says for says, times in seen.reached.items() if times == seen.cycles] == []
    for fault in prop.faults:
        with planted(fault):
            found = simulate(prop, _MORE, 1, usual, **options)
        assert found.broken, f"not found: {fault}"
        assert found.cycles <= _MORE


def never_full(h: Harness) -> None:
    """Wrong of a queue, with what never happens and what always does."""
    dut = h.place(JobQueue(Layout("job", (Field("value", 1, ""),)), 2))
    kept = h.constant("kept", 3)
    h.assume(~dut["pop"] | dut["head_valid"])
    h.assume(kept == 5)
    h.check(kept == 5, "a constant is what is assumed of it")
    h.check(dut["ready"], "there is always room")
    h.cover(dut["overflow"] & dut["ready"], "a job is lost though there is room")
    h.cover(~h.past(kept != 5, "other"), "what always happens")


def test_a_wrong_rule_is_broken_and_an_empty_one_is_not_reached() -> None:
    seen = simulate(Property(name="job_queue.full", rule="", sizes="", build=never_full, faults=()), 200, 1)
    assert seen.broken == ["there is always room"]
    assert seen.reached == {"a job is lost though there is room": 0, "what always happens": seen.cycles}


def test_inputs_that_cannot_be_chosen_end_a_simulation() -> None:
    def contradicts(h: Harness) -> None:
        asked = h.free("asked", 2)
        h.assume((asked == 1) & (asked == 2))
        h.cover(asked == 1, "never")

    with pytest.raises(RuntimeError, match=r"nothing\.at_all: no inputs were found with which all that is assumed holds"):
        simulate(Property(name="nothing.at_all", rule="", sizes="", build=contradicts, faults=()), 10, 1)
