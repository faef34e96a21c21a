"""A chip in NumPy that runs from an image of memory: descriptors move bytes, and jobs are decoded from program stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.chip.executor import Machine
from podweave.compiler.memory.image import MemoryImage
from podweave.compiler.memory.rings import Ring
from podweave.ir.graph import Graph
from podweave.spec.descriptors import DescriptorKind, descriptor_layout, memory_stride, words_of
from podweave.spec.jobs import load_job_layout, post_job_layout, post_parameters_layout, store_layout, stream_job_layout
from podweave.spec.layout import Layout
from podweave.spec.load_port import HostSelect

STORES = {
    HostSelect.LOAD_STORE: load_job_layout,
    HostSelect.STREAM_STORE: stream_job_layout,
    HostSelect.POST_STORE: post_job_layout,
}


def _operations(found: Mapping[str, np.ndarray], compiled: Mapping[str, np.ndarray], unit: str, of: np.ndarray) -> np.ndarray:
    """Operations of jobs, by those that were compiled for the same unit and cycle."""
    known = dict(zip(zip(compiled[unit].tolist(), compiled["start"].tolist(), strict=True), of.tolist(), strict=True))
    return np.array([known[where] for where in zip(found[unit].tolist(), found["start"].tolist(), strict=True)], np.int64)


class Chip:
    """Bytes of everything that a descriptor can reach, by node and select; what was never written is garbage that shows."""

    def __init__(self, image: MemoryImage, memory: np.ndarray):
        self.image, self.memory, self.config = image, memory, image.config
        config = self.config
        self.words = {
            select: np.full((config.pods, words_of(config, select), memory_stride(config, select)), 0xA5, np.uint8)
            for select in HostSelect
            if select <= HostSelect.TABLE
        }
        self.machine = Machine(config)
        self.machine.p[...] = 0x5A5A5A5A
        self.begin_run(warm=False, passes=1)

    def begin_run(self, *, warm: bool, passes: int) -> None:
        """Rings are at their beginnings, program stores rewound."""
        self.progress = [[0, 0] for _ in range(self.config.managers)]
        self.rewind()
        self.rings = [[self.in_order(ring, passes) for ring in rings] for rings in zip(*self.image.rings(warm=warm), strict=True)]

    def rewind(self) -> None:
        self.at = {select: np.zeros(self.config.pods, np.int64) for select in STORES}

    def in_order(self, ring: Ring, passes: int) -> list[dict[str, int]]:
        """The descriptors of a ring in memory, in the order in which a run of so many passes goes over them, as they count then."""
        begin, end = ring.body
        body = list(range(begin, end))
        order = [*range(begin), *body * (passes - 1), *range(end, len(ring))] if begin else range(len(ring))
        found, turns = [], 0
        for at in order:
            d = memory_descriptor(self.memory, ring.base + 64 * at)
            d["tag"] += turns * self.image.epochs
            d["after"] += turns * self.image.epochs
            d["address"] += d["moves"] * turns * self.image.pass_bytes
            turns += d["turns"]
            found.append(d)
        return found

    def descriptors(self, tag: int, done: int, eager: bool) -> None:
        """All that may be executed before epoch ``tag``; ``eager``: also what is for later ones, as early as it may begin."""
        for m in range(self.config.managers):
            for which, words in enumerate(self.rings[m]):
                while self.progress[m][which] < len(words):
                    d = words[self.progress[m][which]]
                    bank = HostSelect(d["select"]) in (HostSelect.X, HostSelect.P) and d["kind"] != DescriptorKind.NOP
                    bank = bank and not d["beside"]
                    if d["after"] > done or (d["tag"] > tag and (not eager or bank)):
                        break
                    self.execute(m, d)
                    self.progress[m][which] += 1

    def execute(self, manager: int, d: dict[str, int]) -> None:
        if d["kind"] == DescriptorKind.NOP:
            return
        assert d["step0"] == 1
        per = self.config.nodes_per_manager
        nodes = [manager * per + u for u in (range(per) if d["broadcast"] else [d["unit"]])]
        select, stride = HostSelect(d["select"]), memory_stride(self.config, HostSelect(d["select"]))
        base, address = d["base"], d["address"]
        for run in range(d["n1"] * d["n2"]):
            if run:
                step, stride_bytes = ("step1", "stride1") if run % d["n1"] else ("step2", "stride2")
                base, address = base + d["n0"] - 1 + d[step], address + d[stride_bytes]
            for node in nodes:
                target = self.words[select][node, base : base + d["n0"]]
                data = self.memory[address : address + d["n0"] * stride].reshape(d["n0"], stride)
                assert target.shape == data.shape
                if d["kind"] == DescriptorKind.STORE:
                    data[...] = target
                else:
                    target[...] = data

    def epoch(self, compiled: EpochProgram | None = None) -> None:
        """The jobs that lie in the stores; those of a chip of layers in the order of the operations of what was ``compiled``."""
        config, machine = self.config, self.machine
        rows, cols = config.array.rows, config.array.cols
        machine.x[...] = self.words[HostSelect.X][..., :rows].view(np.int8)
        machine.w[...] = self.words[HostSelect.W][..., :cols].view(np.int8)
        first = machine.p[:, -1, 0] == 0x5A5A5A5A
        machine.p[first, -1] = np.ascontiguousarray(self.words[HostSelect.P][first, -1, : 4 * cols]).view(np.int32)
        raw = np.unpackbits(self.words[HostSelect.PARAMETERS], axis=2, bitorder="little")
        layout = post_parameters_layout(config)
        lanes = raw[..., : cols * layout.width].reshape(*raw.shape[:2], cols, layout.width)
        for i, f in enumerate(layout.fields):
            machine.sets[:, :, i] = unpack(lanes, layout, f.name)
        tables = [self.words[HostSelect.TABLE][0, 256 * i : 256 * i + 256, 0].view(np.int8) for i in range(config.post.tables)]
        jobs = {select: self.jobs(select, layout_of(config)) for select, layout_of in STORES.items()}

        class Program:
            loads, streams, posts = (
                table | {"pod" if select != HostSelect.POST_STORE else "bank": nodes} for select, (table, nodes) in jobs.items()
            )
            if compiled:
                graph, operations = compiled.graph, compiled.operations
                operation_of_stream = _operations(streams, compiled.streams, "pod", compiled.operation_of_stream)
                operation_of_post = _operations(posts, compiled.posts, "bank", compiled.operation_of_post)

        machine.run(Program, tables)  # type: ignore[arg-type]
        self.words[HostSelect.X][..., :rows] = machine.x.view(np.uint8)

    def jobs(self, select: HostSelect, layout: Layout) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The jobs of all nodes up to the words that end the epoch."""
        whole, found, nodes = store_layout(layout), [], []
        for node in range(self.config.pods):
            words = self.words[select][node]
            while True:
                at = self.at[select][node]
                self.at[select][node] = (at + 1) % len(words)
                bits = np.unpackbits(words[at], bitorder="little")
                word = {f.name: int(unpack(bits, whole, f.name)) for f in whole.fields}
                if word["valid"]:
                    found.append(word)
                    nodes.append(node)
                if word["last"]:
                    break
        return {f.name: np.array([job[f.name] for job in found], np.int64) for f in layout.fields}, np.array(nodes)


def unpack(bits: np.ndarray, layout: Layout, name: str) -> np.ndarray:
    f = next(f for f in layout.fields if f.name == name)
    offset = layout.offset(name)
    # No value here needs bit 63.
    weights = np.array([1 << i for i in range(min(f.width, 63))], np.int64)
    if f.signed:
        weights[-1] *= -1
    return bits[..., offset : offset + len(weights)].astype(np.int64) @ weights


def memory_descriptor(memory: np.ndarray, address: int) -> dict[str, int]:
    bits = np.unpackbits(memory[address : address + 64], bitorder="little")
    return {f.name: int(unpack(bits, descriptor_layout(), f.name)) for f in descriptor_layout().fields}


def run_image(
    image: MemoryImage, programs: Sequence[EpochProgram], graph: Graph, *, eager: bool, seed: int = 0, runs: tuple[int, ...] = (1,)
) -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    """What the passes of the last run read, at random, and what they left."""
    rng = np.random.default_rng(seed)
    memory = rng.integers(0, 256, image.memory_bytes, dtype=np.uint8)
    for at, content in image.content:
        memory[at : at + len(content)] = content
    chip = Chip(image, memory)
    for number, passes in enumerate(runs):
        chip.begin_run(warm=number > 0, passes=passes)
        feeds = []
        for pass_number in range(passes):
            feeds.append({name: rng.integers(-128, 128, shape, dtype=np.int8) for name, shape in graph.inputs.items()})
            for name, tensor in feeds[-1].items():
                where = image.inputs[name]
                memory[where.addresses + pass_number * image.pass_bytes] = tensor.reshape(-1).view(np.uint8)[where.elements]
        for epoch in range(passes * image.epochs):
            if epoch % image.epochs == 0:
                chip.rewind()
            chip.descriptors(epoch, epoch, eager)
            chip.epoch(programs[epoch % image.epochs])
        chip.descriptors(passes * image.epochs, passes * image.epochs, eager)
        assert chip.progress == [[len(ring) for ring in rings] for rings in chip.rings], "descriptors that never may begin"
    found = []
    for pass_number in range(passes):
        found.append({})
        for name, where in image.outputs.items():
            tensor = np.zeros(int(np.prod(where.shape)), np.uint8)
            # What is read in several channels is stored in each.
            assert len(np.unique(where.elements)) == tensor.size
            tensor[where.elements] = memory[where.addresses + pass_number * image.pass_bytes]
            found[-1][name] = tensor.view(np.int8).reshape(where.shape)
    return feeds, found
