"""The memories of the nodes of a running chip, past its ports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import words_of
from podweave.spec.jobs import post_parameters_layout
from podweave.spec.load_port import Counter, HostSelect, host_widths
from podweave.spec.row_functions import ELEMENT_WIDTH

from ..benches.chip_task import Readback, stores
from .backdoor import array, scopes


class NodeArrays:
    """The arrays of the nodes, wherever they stand in the hierarchy of the model. ``chip``: scope of the chip.

    An array has the name of a `HostSelect` (W, P, LENGTHS, COUNTERS and the program stores), of a field of parameters,
    ("x", i, part), slot i of the words of a part of activations, or ("table", i), memory i of activation tables
    (TABLE as well, if there is one).
    """

    def __init__(self, config: ChipConfig, chip: str):
        self.config, self.chip = config, chip
        memory, post = config.memory, config.post
        widths = host_widths(config)
        slot = 8 * config.post_lanes
        self.x_slots = config.array.rows // config.post_lanes
        tables = ("table_0", "table_1") if config.has_rows else ("table",)
        self.tables = len(tables)
        self.places: dict[Any, tuple[str, str, int, int]] = {
            HostSelect.W: ("w_memory.slot_0", "words", memory.w_words, widths[HostSelect.W][1]),
            HostSelect.P: ("p_memory.memory", "words", memory.p_words, widths[HostSelect.P][1]),
            **{
                ("table", i): (f"post_processor.{place}", "words", 256 * post.tables // len(tables), 8)
                for i, place in enumerate(tables)
            },
            HostSelect.LENGTHS: ("post_processor.row_registers.length_memory", "words", post.row_registers, ELEMENT_WIDTH),
            HostSelect.COUNTERS: ("counters", "values", 1, 32 * len(Counter)),
            **{
                select: (f"{layout.name}_feeder.store", "words", words_of(config, select), widths[select][1])
                for _, _, select, layout in stores(config)
            },
            **{
                ("x", i, part): (
                    f"x_memory.{'' if memory.x_parts == 1 else f'part_{part}_'}slot_{i}",
                    "words",
                    memory.x_part_words,
                    slot,
                )
                for i in range(self.x_slots)
                for part in range(memory.x_parts)
            },
            **{
                field.name: (f"post_processor.{field.name}", "words", post.parameter_sets, field.width * config.array.cols)
                for field in post_parameters_layout(config).fields
            },
        }
        if self.tables == 1:
            self.places[HostSelect.TABLE] = self.places["table", 0]
        # A block that is a class of its own has its module's name as one more level.
        self.level = ".node" if any(name.startswith(f"{chip}.node_0.node.") for name in scopes()) else ""
        self.views: dict[tuple[Any, int], NDArray[np.uint8]] = {}

    def view(self, which: Any, node: int) -> NDArray[np.uint8]:
        """(words, bytes) of an array of a node, live."""
        key = which, node
        if key not in self.views:
            place, name, words, width = self.places[which]
            scope = f"{self.chip}.node_{node}{self.level}.{place}"
            self.views[key] = array(scope, name, words, width)[:, : -(-width // 8)]
        return self.views[key]

    def write(self, select: HostSelect, node: int, base: int, words: NDArray[np.uint8]) -> None:
        """Words (n, bytes) of one array, or of activations."""
        if select == HostSelect.X:
            for part, within, of in self._in_parts(base, len(words)):
                for i, slot in enumerate(np.split(words[of], self.x_slots, axis=1)):
                    self.view(("x", i, part), node)[within] = slot
        elif select == HostSelect.TABLE:
            # Even tables in one memory, odd ones in the other, if there are two.
            table, entry = np.divmod(base + np.arange(len(words)), 256)
            for i in range(self.tables):
                of = table % self.tables == i
                self.view(("table", i), node)[256 * (table[of] // self.tables) + entry[of]] = words[of]
        else:
            self.view(select, node)[base : base + len(words), : words.shape[1]] = words

    def _in_parts(self, base: int, count: int) -> Iterator[tuple[int, slice, slice]]:
        """Parts of an X bank in which words from ``base`` on lie: which one, which of its words, and which of those words."""
        depth = self.config.memory.x_part_words
        for part in range(base // depth, -(-(base + count) // depth)):
            begin, end = max(base, part * depth), min(base + count, (part + 1) * depth)
            yield part, slice(begin - part * depth, end - part * depth), slice(begin - base, end - base)

    def read(self, region: Readback) -> NDArray[Any]:
        """Words of a bank, as `bank_words` gives them."""
        select, wanted = HostSelect[region.kind], slice(region.base, region.base + region.words)
        if select == HostSelect.X:
            raw = np.concatenate(
                [
                    np.concatenate([self.view(("x", i, part), region.bank)[within] for i in range(self.x_slots)], axis=1)
                    for part, within, _ in self._in_parts(region.base, region.words)
                ]
            )
        else:
            raw = self.view(select, region.bank)[wanted]
        return bank_words(self.config, select, raw)


def bank_words(config: ChipConfig, select: HostSelect, raw: NDArray[np.uint8]) -> NDArray[Any]:
    """Words (n, bytes) of an X or W bank as int8 (n, lanes), of a P bank as int32 (n, cols)."""
    raw = np.ascontiguousarray(raw[:, : -(-host_widths(config)[select][1] // 8)])
    if select != HostSelect.P:
        return raw.view(np.int8)
    lanes, width = config.array.cols, config.array.psum_width
    bits = np.unpackbits(raw, axis=1, bitorder="little")[:, : lanes * width].reshape(len(raw), lanes, width)
    full = np.concatenate([bits, np.repeat(bits[:, :, -1:], 32 - width, axis=2)], axis=2)
    return np.packbits(full, axis=2, bitorder="little").view(np.int32)[:, :, 0]
