"""What texts run on: programs of a model in the memories of chips, and, in RTL, the chips that run them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.compile_network import CompileOptions
from podweave.compiler.compile_system import compile_system
from podweave.compiler.memory.shared import SharedMemory
from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants
from podweave.ir.frontends.language_models import text_suffix

from ..driver.device import Start
from ..driver.system import System
from ..language.integer_model import IntegerModel
from ..runs.system import SystemNetwork, SystemPrediction
from ..runs.verdict import Comparison
from .accelerators import Accelerators
from .run_shapes import RunShape, TextRun

Progress = Callable[[str], None]
_SPARE = 4
"""Room in memory for programs, as a multiple of that for weights: what is not used takes none."""


class Programs:
    """Programs of a model, compiled when they are first asked for, in one memory of each chip: they share weights and caches.

    Parameters
    ----------
    capacity : int
        Positions for which the caches of a text have room.
    slots : int
        Texts that have caches.

    Members
    -------
    networks : list of SystemNetwork
        In the order in which they must be loaded: each adds to what those before it have put into memory.
    """

    def __init__(self, model: IntegerModel, accelerators: Accelerators, capacity: int, slots: int, progress: Progress):
        self.model, self.accelerators, self.progress = model, accelerators, progress
        config = accelerators.config
        self.constants = Constants(model.constants)
        weights = sum(part.nbytes for held in model.constants.values() for part in held.weights)
        caches = (capacity + config.array.cols) * model.sizes.cached
        channel = slots * (_SPARE * weights + 2 * caches) // config.managers
        # Each text takes programs of its own.
        self.channel_bytes = max(1 << (20 + (slots - 1).bit_length()), 1 << channel.bit_length())
        self.memories = [SharedMemory(config, self.channel_bytes) for _ in range(accelerators.chips)]
        self.options = CompileOptions(from_memory=True, capacity=capacity)
        self.networks: list[SystemNetwork] = []
        self.loaded = 0
        """How many networks the memories of the chips hold."""
        self._compiled: dict[RunShape, SystemNetwork] = {}
        self._predicted: dict[tuple[RunShape, tuple[tuple[int, ...], ...]], SystemPrediction] = {}

    def compiled(self, shape: RunShape) -> SystemNetwork:
        """The programs for a shape; raises `WorkloadError` if the chips cannot run it."""
        if shape not in self._compiled:
            parts = self.accelerators.divide(shape.graph(self.model), self.constants)
            chips = compile_system(parts, self.accelerators.config, self.options, shared=self.memories, progress=self.progress)
            self._compiled[shape] = SystemNetwork(parts, chips)
            self.networks.append(self._compiled[shape])
        return self._compiled[shape]

    def prediction(self, shape: RunShape, inputs: Mapping[str, NDArray]) -> SystemPrediction:
        """Cycles and counters of a run."""
        network = self.compiled(shape)
        key = shape, network.bases(inputs)
        if key not in self._predicted:
            self.progress(f"predicting {network.partition.whole.name}")
            self._predicted[key] = self.accelerators.predict(network.chips, key[1])
        return self._predicted[key]


@dataclass
class Text:
    """A text so far, and its caches.

    Members
    -------
    slot : int
        Which of the texts of a memory it is.
    tokens : list of int
        All that are in the caches, those of the model's prefix in front.
    caches : dict
        By name, as `IntegerModel.caches` makes them.
    stale : bool
        Whether the memories of the chips do not hold yet what is in the caches.
    network : SystemNetwork or None
        The last that ran it: where its caches lie.
    shared : int
        So many positions at the beginning are those of ``holder`` too, and their keys and values lie in its caches alone.
    holder : Text or None
        The text in slot 0, if it shares anything with that.
    """

    slot: int
    tokens: list[int]
    caches: dict[str, NDArray[np.int8]]
    stale: bool = True
    network: SystemNetwork | None = None
    shared: int = 0
    holder: Text | None = None

    def name(self, cache: str) -> str:
        """Of one of its caches in graphs."""
        return f"{cache}{text_suffix(self.slot)}"


@dataclass(frozen=True)
class Part:
    """Rows of a text in a run: the tokens, and what they are run as."""

    text: Text
    run: TextRun
    tokens: Sequence[int]

    @property
    def padded(self) -> list[int]:
        """Tokens of all rows. Whatever padding holds, nobody sees it."""
        return [*self.tokens, *[self.tokens[-1]] * (self.run.text.rows - self.run.count)]

    def caches(self) -> dict[str, NDArray[np.int8]]:
        """As inputs of the graph."""
        return {self.text.name(name): cache[:, :, : self.run.text.context] for name, cache in self.text.caches.items()}


@dataclass(frozen=True)
class Step:
    """One run.

    Members
    -------
    parts : tuple of TextRun
        What of which texts was run.
    logits : ndarray of int32, shape (V,), or None
        Behind the last row, of the golden model, in units of 2**-16; in RTL, they were compared.
    all_logits : ndarray of int32, shape (rows, V), or None
        Of all rows.
    predicted_cycles, cycles : int or None
        By the exact model, and in RTL, of the slowest chip; None where neither ran.
    collectives : float or None
        Share of them in which the slowest chip was in a collective; None for one chip.
    memory_useful : float or None
        Bytes of weights, and of keys and values that the tokens see, each once, of those that the memories of all chips could have
        sent in these cycles outside of refreshes.
    busy : float or None
        Share of cycles in which pods multiply.
    comparison : Comparison or None
        In RTL, with logits, cycles and all counters.
    seconds : float
        That it took, all in all.
    """

    parts: tuple[TextRun, ...]
    all_logits: NDArray[np.int32] | None
    predicted_cycles: int | None = None
    cycles: int | None = None
    collectives: float | None = None
    memory_useful: float | None = None
    busy: float | None = None
    comparison: Comparison | None = None
    seconds: float = 0.0

    @property
    def position(self) -> int:
        """Of the first token of the first text."""
        return self.parts[0].position

    @property
    def count(self) -> int:
        """Tokens of all texts."""
        return sum(part.count for part in self.parts)

    @property
    def rows(self) -> int:
        """That were computed, padding too."""
        return sum(part.text.rows for part in self.parts)

    @property
    def logits(self) -> NDArray[np.int32] | None:
        return None if self.all_logits is None else self.all_logits[-1]

    def row(self) -> dict[str, Any]:
        """For a report."""
        found: dict[str, Any] = {name: getattr(self, name) for name in ("count", "rows", "cycles", "predicted_cycles")}
        found["texts"] = [{"text": part.text.slot, "position": part.position, "count": part.count} for part in self.parts]
        found |= {"logits": self.all_logits is not None, "collectives": self.collectives}
        found |= {"memory_useful": self.memory_useful, "busy": self.busy, "wall_s": self.seconds}
        return found | (self.comparison.row() if self.comparison else {})


@dataclass
class Machine:
    """Runs texts by the golden model, and by what else there is.

    Parameters
    ----------
    model : IntegerModel
        What computes them.
    lanes : int
        Keys of a tile: columns of an array.
    capacity : int
        Positions for which each text has room.
    programs : Programs, optional
        For cycles; without them only the golden model runs.
    system : System, optional
        Where every run is done in RTL as well, and compared.
    """

    model: IntegerModel
    lanes: int
    capacity: int
    programs: Programs | None = None
    system: System | None = None
    progress: Progress = lambda _: None

    def text(self, slot: int = 0) -> Text:
        """A new one: what all begin with."""
        return Text(slot, list(self.model.prefix), self.model.caches(-(-self.capacity // self.lanes) * self.lanes))

    def run(self, parts: Sequence[Part], head: bool) -> Step:
        """Rows of one or several texts at once, with logits or without; caches and tokens of the texts go on."""
        began = time.perf_counter()
        shape = RunShape(tuple(part.run.text for part in parts), head)
        graph = shape.graph(self.model)
        tokens = [token for part in parts for token in part.padded]
        inputs = self.model.rows(tokens, [part.run.position + row for part in parts for row in range(part.run.text.rows)])
        for part in parts:
            inputs |= part.caches()
            holder = part.text.holder
            if holder and all(each.text is not holder for each in parts):
                inputs |= {name: cache[:, :, : part.text.shared] for name, cache in holder.caches.items()}
            if part.run.text.span:
                inputs[f"offset{part.run.text.suffix}"] = np.full((1, 1, 1, 1), part.run.offset, np.int32)
        self.progress(f"golden model, {graph.name}")
        tensors = evaluate(graph, self.model.constants, inputs)
        found: dict[str, Any] = {}
        if self.programs:
            network = self.programs.compiled(shape)
            prediction = self.programs.prediction(shape, inputs)
            found = self._figures(parts, head, prediction)
            if self.system:
                found |= self._simulate(parts, network, prediction, inputs, tensors)
        for part in parts:
            for name, cache in part.text.caches.items():
                cache[:, :, : part.run.text.context] = tensors[f"{name}_now{part.run.text.suffix}"]
            part.text.tokens += part.tokens
        logits = tensors["head"][0, 0] if head else None
        return Step(tuple(part.run for part in parts), logits, **found, seconds=time.perf_counter() - began)

    def _figures(self, parts: Sequence[Part], head: bool, prediction: SystemPrediction) -> dict[str, Any]:
        assert self.programs
        accelerators = self.programs.accelerators
        config, chips = accelerators.config, accelerators.chips
        weights = sum(part.nbytes for name in self.model.constants for part in self.model.constants[name].weights)
        if not head:
            weights -= sum(part.nbytes for part in self.model.constants["head"].weights)
        # Of what texts share, each key counts once.
        shared = [part.text.shared for part in parts if part.text.holder]
        holds = any(part.text.slot == 0 for part in parts)
        seen = sum(part.run.position + part.run.count for part in parts) - sum(shared if holds else shared[1:])
        cached = seen * self.model.sizes.cached
        sendable = prediction.cycles * chips * config.managers * accelerators.timing.available * config.host_bits / 8
        streamed = sum(float(chip.nodes["x_words"].sum()) for chip in prediction.chips)
        slowest = max(prediction.chips, key=lambda chip: chip.cycles)
        return {
            "predicted_cycles": prediction.cycles,
            "collectives": slowest.counters["COLLECTIVE_CYCLES"] / slowest.cycles if chips > 1 else None,
            "memory_useful": (weights + cached) / sendable,
            "busy": streamed / (prediction.cycles * chips * config.pods),
        }

    def _simulate(
        self,
        parts: Sequence[Part],
        network: SystemNetwork,
        prediction: SystemPrediction,
        inputs: dict[str, NDArray],
        tensors: dict[str, NDArray],
    ) -> dict[str, Any]:
        """The same run in RTL."""
        system, programs = self.system, self.programs
        assert system
        assert programs
        # In the order in which they were placed: a program uses what those before it have put into memory.
        for placed in programs.networks[programs.loaded :]:
            system.load(placed.images)
        programs.loaded = len(programs.networks)
        self._select(network)
        texts = [*(part.text for part in parts), *(part.text.holder for part in parts if part.text.holder)]
        held = {text.name(name) for text in texts if not text.stale for name in text.caches}
        for rank, mine in enumerate(network.partition.cut(inputs)):
            for name, tensor in mine.items():
                if name not in held:
                    system.write_input(rank, name, tensor)
        for part in parts:
            part.text.stale, part.text.network = False, network
        whole = network.partition.whole
        system.run(
            Start(**programs.accelerators.options, warm=False),
            max_cycles=2 * prediction.cycles + 100_000,
            progress=lambda cycles: self.progress(f"simulating {whole.name}: {min(1.0, cycles / prediction.cycles):.0%}"),
        )
        counters = system.counters()
        cycles = max(each.device["CYCLES"] for each in counters)
        comparison = Comparison(cycles, prediction.cycles)
        # Of each chip, what it has of the outputs: chips that have all of one have the same.
        expected = network.partition.cut({name: tensors[name] for name in whole.outputs})
        for rank, (each, predicted, wanted) in enumerate(zip(counters, prediction.chips, expected, strict=True)):
            whose = f"chip {rank}: " if programs.accelerators.chips > 1 else ""
            for name, tensor in wanted.items():
                comparison.values(f"{whose}{name}", tensor, system.read_output(rank, name))
            comparison.counters(predicted.counters, each.device, whose)
            comparison.counters(predicted.nodes, each.nodes, whose)
        return {"cycles": cycles, "comparison": comparison}

    def _select(self, network: SystemNetwork) -> None:
        assert self.system
        if self.system.devices[0].image is not network.images[0]:
            self.system.select(network.images)

    def held(self, text: Text) -> dict[str, NDArray[np.int8]] | None:
        """The caches of a text in the memories of the chips, put together, as far as the last program that ran it sees them; None
        outside of RTL, or if they are not there."""
        if not self.system or text.network is None or text.stale:
            return None
        self._select(text.network)
        names = {text.name(name): name for name in text.caches}
        chips = [{name: self.system.read_input(rank, name) for name in names} for rank in range(text.network.partition.chips)]
        found = {names[name]: cache for name, cache in text.network.partition.join(chips).items()}
        if text.holder:
            first = self.held(text.holder)
            if first is None:
                return None
            for name, cache in found.items():
                cache[:, :, : text.shared] = first[name][:, :, : text.shared]
        return found
