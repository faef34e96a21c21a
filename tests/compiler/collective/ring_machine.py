"""Chips of a ring, from their memory images to outputs: descriptors are executed, jobs decoded and run, sums added over all chips.

Of post-processors only what linear operations need: planes joined, scaled, saturated, stored or added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.chip.executor import Machine
from podweave.compiler.compile_network import CompiledNetwork
from podweave.compiler.memory.image import MemoryImage
from podweave.golden.layers.fixed_point import LIMITS
from podweave.ir.partition import Partition
from podweave.spec.descriptors import memory_stride, words_of
from podweave.spec.jobs import Reduce
from podweave.spec.layout import Layout
from podweave.spec.links import NO_COLLECTIVE, receive_job_layout, send_job_layout
from podweave.spec.load_port import HostSelect
from podweave.spec.row_functions import Combine, Destination, Saturate
from tests.compiler.collective import ring_interpreter
from tests.compiler.memory.image_machine import Chip, unpack

Jobs = dict[str, NDArray[np.int64]]
WIDTHS = {Saturate.INT8: "int8", Saturate.INT16: "int16", Saturate.WIDE: "int32"}
STORES = ((HostSelect.SEND_STORE, send_job_layout), (HostSelect.RECEIVE_STORE, receive_job_layout))


class RowMachine(Machine):
    """Post-processors with row functions, whose jobs read what is complete."""

    def _turns(self, program: EpochProgram, job: NDArray[np.int64]) -> NDArray[np.int64]:
        """In the order of time."""
        return np.concatenate([self.streams["start"] + self.config.network_latency, program.posts["start"]])

    def _post(self, job: int) -> None:
        of = {name: int(values[job]) for name, values in self.posts.items()}
        assert (of["combine"], of["statistic"], of["row_scale"], of["masked"], of["activate"]) == (Combine.VALUE, 0, 0, 0, 0)
        assert of["reduce"] == Reduce.HORNER
        bank, p, x = of["bank"], of["p_base"], of["x_base"]
        for _ in range(of["n3"]):
            for word in range(of["n2"]):
                total = np.zeros(self.p.shape[2], np.int64)
                for plane in range(of["n0"]):
                    total = 256 * total + self.p[bank, p]
                    p += of["p_step0"] if plane < of["n0"] - 1 else 0
                bias, multiplier, shift, _ = self.sets[bank, of["parameters"] + of["parameters_step"] * word]
                product = (total + bias).astype(object) * multiplier.astype(object)
                magnitude = [(abs(v) + (1 << int(s) >> 1)) >> int(s) for v, s in zip(product, shift, strict=True)]
                signed = [-m if v < 0 else m for m, v in zip(magnitude, product, strict=True)]
                result = np.clip(np.array(signed, object), *LIMITS[WIDTHS[Saturate(of["saturate"])]]).astype(np.int64)  # type: ignore[index]
                self._write(Destination(of["destination"]), bank, of["x_bank"], x, result)
                if word < of["n2"] - 1:
                    p, x = p + of["p_step2"], x + of["x_step2"]
            p, x = p + of["p_step3"], x + of["x_step3"]

    def _write(self, destination: Destination, bank: int, x_bank: int, at: int, result: NDArray[np.int64]) -> None:
        high = (result + 128) >> 8
        match destination:
            case Destination.STORE:
                self.p[bank, at] = result
            case Destination.ADD:
                self.p[bank, at] += result.astype(np.int32)
            case Destination.X:
                self.x[x_bank, at] = result
            case Destination.PLANES:
                self.x[x_bank, at], self.x[x_bank, at + 1] = high, result - 256 * high
            case _:
                raise AssertionError(destination)


class RingChip(Chip):
    """A chip with links, and the epoch that comes next."""

    def __init__(self, image: MemoryImage, memory: NDArray[np.uint8]):
        super().__init__(image, memory)
        config = self.config
        self.words |= {
            select: np.full((config.pods, words_of(config, select), memory_stride(config, select)), 0xA5, np.uint8)
            for select in (HostSelect.LENGTHS, *(select for select, _ in STORES))
        }
        self.machine = RowMachine(config)
        self.next_epoch, self.next_collective = 0, image.first_collective
        self.place = dict.fromkeys(self.words, 0)

    def epoch(self) -> None:
        lanes = 4 * self.config.array.cols
        words = self.words[HostSelect.P]
        self.machine.p[...] = np.ascontiguousarray(words[..., :lanes]).view(np.int32)
        super().epoch()
        words[..., :lanes] = self.machine.p.view(np.uint8)

    def advance(self, eager: bool) -> None:
        """All epochs up to the next collective, and what is loaded for it; or the last one, and all that comes behind."""
        while self.next_epoch < min(self.next_collective, self.image.epochs):
            self.descriptors(self.next_epoch, self.next_epoch, eager)
            self.epoch()
            self.next_epoch += 1
        self.descriptors(self.next_epoch, self.next_epoch, eager)

    def collective(self) -> ring_interpreter.Chip:
        """The jobs of the next collective, as they lie in the stores; banks of P words."""
        sends, receives = (self._decoded(select, layout(self.config)) for select, layout in STORES)
        assert {*sends["id"].tolist(), *receives["id"].tolist()} == {self.next_epoch}
        self.next_collective = int(sends["next"][-1])
        banks = np.ascontiguousarray(self.words[HostSelect.P][..., : 4 * self.config.array.cols]).view(np.int32).astype(np.int64)
        return ring_interpreter.Chip(sends, receives, banks)

    def take(self, banks: NDArray[np.int64]) -> None:
        """What a collective has left."""
        self.words[HostSelect.P][..., : 4 * self.config.array.cols] = banks.astype(np.int32).view(np.uint8)
        self.next_epoch += 1

    def _decoded(self, select: HostSelect, layout: Layout) -> Jobs:
        found: list[dict[str, int]] = []
        while not found or not found[-1]["last"]:
            words = self.words[select][0]
            bits = np.unpackbits(words[self.place[select]], bitorder="little")
            found.append({field.name: int(unpack(bits, layout, field.name)) for field in layout.fields})
            self.place[select] = (self.place[select] + 1) % len(words)
            assert len(found) <= len(words)
        return {name: np.array([job[name] for job in found], np.int64) for name in found[0]}


def run_system(
    networks: Sequence[CompiledNetwork], partition: Partition, inputs: Mapping[str, NDArray], *, eager: bool, seed: int = 0
) -> dict[str, NDArray]:
    """The whole outputs."""
    rng = np.random.default_rng(seed)
    chips = []
    for network, given in zip(networks, partition.cut(inputs), strict=True):
        image = network.memory
        memory = rng.integers(0, 256, image.memory_bytes, dtype=np.uint8)
        for at, content in image.content:
            memory[at : at + len(content)] = content
        for name, tensor in given.items():
            where = image.inputs[name]
            memory[where.addresses] = where.encoded(tensor)[where.elements]
        chips.append(RingChip(image, memory))
    count = len(networks[0].collectives)
    for number in range(count + 1):
        for chip in chips:
            chip.advance(eager)
            assert (chip.next_collective == NO_COLLECTIVE) == (number == count)
        if number < count:
            ring = [chip.collective() for chip in chips]
            ring_interpreter.run_ring(ring, rng, room=int(rng.integers(1, 9)))
            for chip, after in zip(chips, ring, strict=True):
                chip.take(after.banks)
    outputs = []
    for chip in chips:
        image = chip.image
        sizes = [[len(ring) for ring in rings] for rings in zip(image.demand, image.prefetch, strict=True)]
        assert chip.progress == sizes, "descriptors that never may begin"
        found = {}
        for name, where in image.outputs.items():
            content = np.zeros(where.size, np.uint8)
            content[where.elements] = chip.memory[where.addresses]
            found[name] = where.decoded(content)
        outputs.append(found)
    return partition.join(outputs)
