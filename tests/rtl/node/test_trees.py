"""The trees between ports of a chip and its nodes, each alone: accesses come to their nodes, what these read comes back."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from podweave.rtl.node.link_tree import LinkTree
from podweave.rtl.node.load_port_tree import LoadPortTree
from podweave.spec.links_config import LinksConfig
from podweave.spec.presets import load_config
from podweave.tb.benches.block_bench import BlockBench

CHIP = load_config("chip2x4")
CYCLES = 1500
LINKED = dataclasses.replace(CHIP, links=LinksConfig(flit_bits=32, buffer_words=4, jobs=16))
# Two groups of nodes, and two levels of registers.
WIDE = CHIP.replace(pods=32, banks=32, rows=2, cols=2, group_rows=1, group_cols=1, pipeline=2, w_words=32)
CHILDREN, NODES = 3, 4
Values = dict[str, NDArray]


@functools.cache
def link_bench() -> BlockBench:
    lanes = {"child_read_data": (1, CHILDREN * LINKED.link_bits, False), "child_valid": (1, CHILDREN, False)}
    lanes |= dict.fromkeys(("link_data", "child_data", "link_read_data"), (1, LINKED.link_bits, False))
    return BlockBench.of(LinkTree(LINKED, CHILDREN, NODES), lanes, random_initial_state=True)


@functools.cache
def load_bench() -> BlockBench:
    block = LoadPortTree(WIDE)
    # Bit by bit, so that no width is in the way.
    members = block.signature.members
    lanes = {name: (1, member.shape, False) for name, member in members.items() if member.shape > 1}
    lanes["host_unit"] = (members["host_unit"].shape, 0, False)
    return BlockBench.of(block, lanes, random_initial_state=True)


def random_inputs(bench: BlockBench, seed: int) -> Values:
    """What nodes read is 0 in most cycles, and in all but one of them."""
    rng = np.random.default_rng(seed)
    values = {port.name: rng.integers(0, 1 << port.width, (CYCLES, port.lanes) if port.lanes else CYCLES) for port in bench.inputs}
    for name, nodes in (("child_read_data", "child_valid"), ("node_read_data", "node_valid")):
        if name in values:
            count = next(port.lanes or 1 for port in bench.outputs if port.name == nodes)
            words = values[name].reshape(CYCLES, count, -1)
            words *= (rng.integers(0, 2 * count, CYCLES)[:, None] == np.arange(count))[:, :, None]
    return values


def test_link_tree() -> None:
    """One cycle down, and one up."""
    bench = link_bench()
    given = random_inputs(bench, 7)
    found = bench.run(given)
    for name in ("write", "add", "kind", "address", "data"):
        np.testing.assert_array_equal(found[f"child_{name}"][1:], given[f"link_{name}"][:-1], name)
    child, unit = np.divmod(given["link_unit"], NODES)
    valid = (child[:, None] == np.arange(CHILDREN)) & (given["link_valid"][:, None] == 1)
    np.testing.assert_array_equal(found["child_valid"][1:], valid[:-1])
    assert valid.sum(axis=0).min() > 100
    np.testing.assert_array_equal(found["child_unit"][1:], unit[:-1])
    read = given["child_read_data"].reshape(CYCLES, CHILDREN, -1).max(axis=1)
    np.testing.assert_array_equal(found["link_read_data"][1:], read[:-1])
    assert read.any(axis=0).all()


def test_load_tree() -> None:
    """``host_levels`` cycles down, and as many up; a broadcast is for all nodes."""
    bench, nodes, levels = load_bench(), WIDE.nodes_per_manager, WIDE.host_levels
    given = random_inputs(bench, 8)
    found = bench.run(given)
    for name in {port.name for port in bench.outputs if port.name.startswith("group_")}:
        sent = given[name.removeprefix("group_")].reshape(CYCLES, 1, -1)
        got = found[name].reshape(CYCLES, -1, sent.shape[2])
        np.testing.assert_array_equal(got[levels:], np.broadcast_to(sent[: CYCLES - levels], got[levels:].shape), name)
    named = (given["host_unit"][:, None] == np.arange(nodes)) | (given["host_broadcast"][:, None] == 1)
    valid = named & (given["host_valid"][:, None] == 1)
    np.testing.assert_array_equal(found["node_valid"][levels:], valid[: CYCLES - levels])
    read = given["node_read_data"].reshape(CYCLES, nodes, -1).max(axis=1)
    np.testing.assert_array_equal(found["host_read_data"][levels:], read[: CYCLES - levels])
    assert read.any(axis=0).all()
