"""The section Members of a block says of every port which way it goes, and of no port that is not there."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from fnmatch import fnmatchcase

import pytest
from amaranth.lib.wiring import Out

from podweave.rtl.accelerator.accelerator import Accelerator
from podweave.rtl.chip.chip import Chip
from podweave.rtl.control.node_window import NodeWindow
from podweave.rtl.control.run_control import RunControl
from podweave.rtl.control.run_counters import RunCounters
from podweave.rtl.control.software_control import SoftwareControl
from podweave.rtl.link.collective_engine import CollectiveEngine
from podweave.rtl.link.crc import FlitCrc
from podweave.rtl.link.job_walker import JobWalker
from podweave.rtl.link.link_port import LinkPort
from podweave.rtl.link.sender import Sender
from podweave.rtl.link.stray_jobs import StrayJobs
from podweave.rtl.network.butterfly import ReadButterfly, WriteButterfly
from podweave.rtl.network.statistics import StatisticsNetwork
from podweave.rtl.node.link_tree import LinkTree
from podweave.rtl.node.load_port_tree import LoadPortTree
from podweave.rtl.node.node import Node
from podweave.rtl.node.p_bank import PBank
from podweave.rtl.parts.amaranth_internals import mark_used
from podweave.rtl.parts.blocks import Block
from podweave.rtl.pod.array import Array, ArrayRow
from podweave.rtl.pod.array_group import ArrayGroup, GroupColumn
from podweave.rtl.pod.pod import Pod
from podweave.rtl.post.combiner import Combiner
from podweave.rtl.post.post_processor import PostProcessor
from podweave.rtl.post.requantizer import Requantizer
from podweave.rtl.post.row_registers import RowRegisters
from podweave.rtl.post.row_statistic import RowStatistic
from podweave.rtl.prefetch.prefetch_engine import PrefetchEngine
from podweave.spec.links import send_job_layout
from podweave.spec.links_config import LinksConfig
from podweave.spec.presets import load_config

PLANES = dict.fromkeys(("x_planes", "w_planes", "p_planes", "y_planes"), 2)
# With everything that a configuration can have.
CONFIG = dataclasses.replace(
    load_config("chip2x4").replace(row_registers=16, base_registers=2, column_words=4, managers=2, pass_bits=4, **PLANES),
    links=LinksConfig(flit_bits=64),
)
BLOCKS: dict[str, Callable[[], Block]] = {
    "GroupColumn": lambda: GroupColumn(CONFIG.array),
    "ArrayGroup": lambda: ArrayGroup(CONFIG.array),
    "ArrayRow": lambda: ArrayRow(CONFIG.array),
    "Array": lambda: Array(CONFIG.array),
    "Combiner": lambda: Combiner(4),
    "RowRegisters": lambda: RowRegisters(16),
    "RowStatistic": lambda: RowStatistic(4, 32, 2),
    "Requantizer": lambda: Requantizer(CONFIG),
    "StatisticsNetwork": lambda: StatisticsNetwork(4),
    "ReadButterfly": lambda: ReadButterfly(stages=2, payload=3, data=8, pipeline=1, turnaround=1),
    "WriteButterfly": lambda: WriteButterfly(stages=2, payload=3, pipeline=1),
    **{
        kind.__name__: lambda kind=kind: kind(CONFIG)
        for kind in (Pod, PBank, PostProcessor, PrefetchEngine, Node, LoadPortTree, Chip, Accelerator)
    },
    "LinkTree": lambda: LinkTree(CONFIG, 2, 16),
    "FlitCrc": lambda: FlitCrc(64),
    "JobWalker": lambda: JobWalker(CONFIG, send_job_layout(CONFIG)),
    **{kind.__name__: lambda kind=kind: kind(CONFIG) for kind in (CollectiveEngine, LinkPort, Sender, StrayJobs)},
    **{kind.__name__: lambda kind=kind: kind(CONFIG) for kind in (NodeWindow, RunControl, RunCounters, SoftwareControl)},
}
# What row functions leave no room for.
OTHERS: dict[str, Callable[[], Block]] = {"Requantizer": lambda: Requantizer(load_config("chip2x4").replace(zero_points=True))}
Ports = dict[str, str]


def made(make: Callable[[], Block]) -> Block:
    """A block that will never be elaborated, nor will those that it holds."""
    pending = [block := make()]
    while pending:
        mark_used(one := pending.pop())
        pending += [part for part in vars(one).values() if isinstance(part, Block)]
    return block


def ports(block: Block) -> Ports:
    return {name: "Out" if member.flow is Out else "In" for name, member in block.signature.members.items()}


def sections(docstring: str) -> dict[str, str]:
    parts = re.split(r"^ *(\w+)\n *-{4,}\n", docstring, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def differences(docstring: str, found: Ports) -> list[str]:
    """What the section says that is not so, and what it does not say."""
    wrong, seen = [], set()
    entries = [
        (names.split(", "), re.findall(r"\b(In|Out)\(", what))
        for names, what in re.findall(r"^    (\S.*?) : (\S.*)$", sections(docstring)["Members"], re.MULTILINE)
    ]
    exact = {name for names, _ in entries for name in names} & set(found)
    for names, ways in entries:
        # One shape for each name, or one for all.
        ways = ways if len(ways) == len(names) else ways[:1] * len(names) or [""] * len(names)
        for pattern, way in zip(names, ways, strict=True):
            # Three dots, and wildcards, are for what has no entry of its own.
            wanted = "*" if pattern == "..." else re.sub(r"<\w+>", "*", pattern)
            matching = {pattern} if pattern in exact else {name for name in found if fnmatchcase(name, wanted)} - exact
            seen |= matching
            if not matching:
                wrong.append(f"there is no {pattern}")
            if way and pattern != "...":
                wrong += [f"{name} is not {way}" for name in sorted(matching) if found[name] != way]
    return wrong + [f"nothing is said of {name}" for name in sorted(set(found) - seen)]


@pytest.mark.parametrize("name", BLOCKS)
def test_members_are_the_ports(name: str) -> None:
    block = made(BLOCKS[name])
    docstring = type(block).__doc__ or ""
    assert list(sections(docstring)) == ["Parameters", "Members"]
    others = ports(made(OTHERS[name])) if name in OTHERS else {}
    assert differences(docstring, others | ports(block)) == []


def test_differences_are_found() -> None:
    docstring, found = Pod.__doc__ or "", ports(made(BLOCKS["Pod"]))
    assert differences(docstring, {**found, "extra": "In"}) == ["nothing is said of extra"]
    assert "busy is not Out" in differences(docstring, found | {"busy": "In"})
    assert differences(docstring, {name: way for name, way in found.items() if name != "busy"}) == ["there is no busy"]
