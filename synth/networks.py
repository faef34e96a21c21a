"""Areas of the networks of a chip, from blocks that switch a few bits of each word.

A butterfly of 16 ports of 1,038 bits has tens of thousands of multiplexers; but all bits of a word go the same way. Its area is
that of what finds the way plus, for each bit of the words, that of the same multiplexers and registers: a straight line over the
width. So the block is emitted and synthesised with words of `NARROW` and of `WIDE` bits, and the line through the two areas gives
that of its own width. Everything else keeps its size: ports, stages, registers, and the payload of reads, which switches compare.
Write blocks of equal ports and registers then share their narrow blocks, whatever their width: P and Y networks, first and second
layer.

``tests/synth/test_networks.py`` holds the line against blocks synthesised whole: within 2% on small ones, where abc's choices weigh
more; within 0.6% on blocks of 32x32 pods in their full width of 256 and 270 bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from podweave.rtl.accelerator.emit import emit_block
from podweave.rtl.network.butterfly import ReadButterfly, WriteButterfly
from podweave.rtl.network.crossbar import ReadCrossbar, WriteCrossbar
from podweave.rtl.network.network import ReadNetwork, WriteNetwork
from podweave.rtl.node.node import p_payload_parts, y_payload_parts
from podweave.rtl.parts.blocks import Block, collecting_placements
from podweave.spec.config import ChipConfig
from podweave.spec.layout import bits_for_index

from .blocks import Hierarchy
from .cells import Cells, synthesise
from .liberty import Liberty

NETWORKS = ("x", "w", "p", "y")
NARROW, WIDE = 8, 24


@dataclass(frozen=True)
class NetworkBlock:
    """A block of a network and how often one plane of the network holds it."""

    block: Block
    instances: int


def network_blocks(config: ChipConfig) -> dict[str, list[NetworkBlock]]:
    """The blocks of one plane of each of `NETWORKS`."""
    memory, array = config.memory, config.array
    shape: dict[str, Any] = {"ports": config.pods, "layers": config.network_layers}
    shape |= {"pipeline": config.network.pipeline, "kind": config.network.kind}
    found = {}
    for name in NETWORKS:
        network: ReadNetwork | WriteNetwork
        if name in ("x", "w"):
            words, lanes = (memory.x_words, array.rows) if name == "x" else (memory.w_words, array.cols)
            sizes: dict[str, Any] = {"payload": bits_for_index(words), "data": 8 * lanes, "turnaround": config.bank_latency}
            network = ReadNetwork(**sizes, **shape)
        else:
            network = WriteNetwork(payload=sum(p_payload_parts(config) if name == "p" else y_payload_parts(config)), **shape)
        with collecting_placements() as placed:
            # Only what it places counts, which is why it may be too wide for a module. Amaranth would warn of what is not used.
            network.elaborate(None)._MustUse__used = True
        network._MustUse__used = True
        blocks = {block.module_name: block for block in placed}
        counts = Counter(block.module_name for block in placed)
        found[name] = [NetworkBlock(block, counts[module]) for module, block in blocks.items()]
    return found


def word_width(block: Block) -> int:
    """Bits of the words that a block switches: of data if it reads, of payload if it writes."""
    assert isinstance(block, ReadButterfly | WriteButterfly | ReadCrossbar | WriteCrossbar)
    return block.payload if isinstance(block, WriteButterfly | WriteCrossbar) else block.data_width


def with_width(block: Block, bits: int) -> Block:
    """The same block for words of so many bits."""
    made: Block
    if isinstance(block, ReadButterfly):
        made = ReadButterfly(
            stages=block.stages, payload=block.payload, data=bits, pipeline=block.pipeline, turnaround=block.turnaround
        )
    elif isinstance(block, WriteButterfly):
        made = WriteButterfly(stages=block.stages, payload=bits, pipeline=block.pipeline)
    elif isinstance(block, ReadCrossbar):
        made = ReadCrossbar(ports=block.ports, payload=block.payload, data=bits, depth=block.depth, turnaround=block.turnaround)
    else:
        assert isinstance(block, WriteCrossbar)
        made = WriteCrossbar(ports=block.ports, payload=bits, depth=block.depth)
    # Amaranth would warn of one that is never elaborated because its area is known.
    made._MustUse__used = True
    return made


def on_the_line(block: Block, whole: Callable[[Block], Cells]) -> Cells:
    """Cells of a block of a network, by ``whole`` applied to narrow ones; the number of cells is rounded."""
    width = word_width(block)
    if width <= WIDE:
        return whole(block)
    narrow, wide = whole(with_width(block, NARROW)), whole(with_width(block, WIDE))
    steps = (width - NARROW) / (WIDE - NARROW)
    return Cells(
        narrow.area + steps * (wide.area - narrow.area),
        narrow.sequential_area + steps * (wide.sequential_area - narrow.sequential_area),
        round(narrow.cells + steps * (wide.cells - narrow.cells)),
    )


def synthesise_network_block(block: Block, *, flow: str, liberty: Liberty) -> Cells:
    """Cells of a block of a network, on the line."""

    def whole(narrow: Block) -> Cells:
        hierarchy = Hierarchy(emit_block(narrow))
        return synthesise(hierarchy[narrow.module_name], "\n", flow=flow, liberty=liberty)

    return on_the_line(block, whole)


def network_areas(config: ChipConfig, area: Callable[[Block], float]) -> dict[str, float]:
    """Area of all planes of each network; ``area`` gives that of one block."""
    blocks = network_blocks(config)
    return {name: config.memory.planes[name] * sum(b.instances * area(b.block) for b in blocks[name]) for name in NETWORKS}


def network_shares(areas: dict[str, float], *, pods: int, pod_area: float, chip_area: float | None = None) -> dict[str, Any]:
    """For each network, all its planes, and for ``all`` of them, JSON-ready.

    ``area``; ``area_per_pod``; ``share_of_pod``: area per pod over that of a pod, its logic without SRAM; ``share_of_chip``: area
    over that of all logic of the chip, if that is given.
    """
    found = {}
    for name, area in {**areas, "all": sum(areas.values())}.items():
        row = {"area": round(area, 2), "area_per_pod": round(area / pods, 2), "share_of_pod": area / pods / pod_area}
        found[name] = row if chip_area is None else {**row, "share_of_chip": area / chip_area}
    return found
