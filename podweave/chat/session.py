"""A text that grows on an accelerator: in RTL, by its exact model, or by the golden model alone."""

from __future__ import annotations

import contextlib
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.compile_network import CompiledNetwork, CompileOptions, compile_network
from podweave.compiler.memory.image import MemoryImage
from podweave.compiler.memory.shared import SharedMemory
from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants
from podweave.ir.layers import WorkloadError
from podweave.ir.row_graph import RowGraph
from podweave.predict.accelerator import Prediction, predict_accelerator
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig
from podweave.tb.benches.accelerator_bench import AcceleratorBench

from ..driver.device import Device
from ..language.integer_model import IntegerModel
from ..runs.verdict import Comparison
from .run_shapes import Run, RunShape, decoding, prefilling

Progress = Callable[[str], None]
WAYS = ("golden", "model", "rtl")
CHUNK = 128
"""Tokens of a prompt that are run at a time, if row registers are there for as many."""
_STATE = "podweave session 1"
_SPARE = 4
"""Room in memory for programs, as a multiple of that for weights: what is not used takes none."""


@dataclass(frozen=True)
class Step:
    """One run.

    Members
    -------
    position, count, rows : int
        Of the first token; tokens; rows that were computed, padding too.
    logits : ndarray of int32, shape (V,), or None
        Of the golden model, in units of 2**-16; in RTL, they were compared.
    predicted_cycles, cycles : int or None
        By the exact model, and in RTL; None where neither ran.
    memory_useful : float or None
        Bytes of weights, and of keys and values that the tokens see, each once, of those that the memory could have sent in these
        cycles outside of refreshes.
    busy : float or None
        Share of cycles in which pods multiply.
    comparison : Comparison or None
        In RTL, with logits, cycles and all counters.
    seconds : float
        That it took, all in all.
    """

    position: int
    count: int
    rows: int
    logits: NDArray[np.int32] | None
    predicted_cycles: int | None = None
    cycles: int | None = None
    memory_useful: float | None = None
    busy: float | None = None
    comparison: Comparison | None = None
    seconds: float = 0.0

    def row(self) -> dict[str, Any]:
        """For a report."""
        found = {name: getattr(self, name) for name in ("position", "count", "rows", "cycles", "predicted_cycles")}
        found |= {"memory_useful": self.memory_useful, "busy": self.busy, "wall_s": self.seconds}
        return found | (self.comparison.row() if self.comparison else {})


class Programs:
    """Programs of a model on a configuration, compiled when they are first asked for, in one memory: they share weights and caches.

    Parameters
    ----------
    capacity : int
        Positions for which caches have room.

    Members
    -------
    images : list of MemoryImage
        In the order in which they must be loaded: each adds to what those before it have put into memory.
    """

    def __init__(self, model: IntegerModel, config: ChipConfig, capacity: int, timing: HbmTiming, progress: Progress):
        self.model, self.config, self.timing, self.progress = model, config, timing, progress
        self.constants = Constants(model.constants)
        weights = sum(part.nbytes for held in model.constants.values() for part in held.weights)
        caches = 2 * model.sizes.layers * (capacity + config.array.cols) * model.sizes.key_channels
        channel = (_SPARE * weights + 2 * caches) // config.managers
        self.memory = SharedMemory(config, max(1 << 20, 1 << channel.bit_length()))
        self.options = CompileOptions(from_memory=True, shared=self.memory, capacity=capacity)
        self.images: list[MemoryImage] = []
        self._compiled: dict[RunShape, CompiledNetwork] = {}
        self._predicted: dict[tuple[RunShape, tuple[int, ...]], Prediction] = {}

    def compiled(self, shape: RunShape) -> CompiledNetwork:
        """The program for a shape; raises `WorkloadError` if the configuration cannot run it."""
        if shape not in self._compiled:
            graph = shape.graph(self.model)
            self._compiled[shape] = compile_network(graph, self.config, self.constants, self.options, progress=self.progress)
            self.images.append(self._compiled[shape].memory)
        return self._compiled[shape]

    def prediction(self, shape: RunShape, bases: tuple[int, ...]) -> Prediction:
        """Cycles and counters of a run."""
        key = shape, bases
        if key not in self._predicted:
            self.progress(f"predicting {shape.graph(self.model).name}")
            self._predicted[key] = predict_accelerator(self.compiled(shape), self.timing, bases=bases)
        return self._predicted[key]


@dataclass
class Session:
    """A text so far, and its caches.

    Parameters
    ----------
    model : IntegerModel
        What computes it.
    lanes : int
        Keys of a tile: columns of an array.
    capacity : int
        Positions for which there is room.
    chunk : int
        Tokens of a prompt that are run at a time, at the most.
    programs : Programs, optional
        For cycles; without them only the golden model runs.
    device : Device, optional
        Where every run is done in RTL as well, and compared.

    Members
    -------
    tokens : list of int
        All that are in the caches, those of the model's prefix in front.
    """

    model: IntegerModel
    lanes: int
    capacity: int
    chunk: int = CHUNK
    programs: Programs | None = None
    device: Device | None = None
    progress: Progress = lambda _: None
    tokens: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens = list(self.model.prefix)
        self._caches = self.model.caches(-(-self.capacity // self.lanes) * self.lanes)
        self._loaded = 0
        # The device's memory does not hold yet what is in the caches.
        self._stale = True

    def feed(self, tokens: Sequence[int]) -> Iterator[Step]:
        """Run tokens behind the text; the last step has the logits of the last of them.

        Raises `WorkloadError` for no tokens, and for more than there is room for, before anything is run.
        """
        if not tokens:
            raise WorkloadError("a prompt must have at least one token, got 0")
        end = len(self.tokens) + len(tokens)
        if end > self.capacity:
            raise WorkloadError(
                f"{len(self.tokens)} tokens and {len(tokens)} more do not fit a context of {self.capacity}: allowed are "
                f"{self.capacity - len(self.tokens)}"
            )
        for run in prefilling(len(self.tokens), len(tokens) - 1, self.lanes, self.chunk):
            first = len(tokens) - (end - run.position)
            yield self._step(run, tokens[first : first + run.count])
        yield self._step(decoding(end - 1, self.lanes), tokens[-1:])

    def _step(self, run: Run, tokens: Sequence[int]) -> Step:
        began = time.perf_counter()
        shape = run.shape
        graph = shape.graph(self.model)
        # Whatever padding holds, nobody sees it.
        padded = [*tokens, *[tokens[-1]] * (shape.rows - run.count)]
        caches = {name: cache[:, :, : shape.context] for name, cache in self._caches.items()}
        inputs = self.model.inputs(padded, caches, run.position)
        if shape.span:
            inputs["offset"] = np.full((1, 1, 1, 1), run.offset, np.int32)
        self.progress(f"golden model, {graph.name}")
        tensors = evaluate(graph, self.model.constants, inputs)
        found: dict[str, Any] = {}
        if self.programs:
            network = self.programs.compiled(shape)
            prediction = self.programs.prediction(shape, network.memory.bases(inputs))
            found = self._figures(graph, run, prediction)
            if self.device:
                found |= self._simulate(network, prediction, inputs, tensors)
        for name, cache in self._caches.items():
            cache[:, :, : shape.context] = tensors[f"{name}_now"]
        self.tokens += tokens
        logits = tensors["head"][0, 0, -1] if shape.head else None
        return Step(run.position, run.count, shape.rows, logits, **found, seconds=time.perf_counter() - began)

    def _figures(self, graph: RowGraph, run: Run, prediction: Prediction) -> dict[str, Any]:
        assert self.programs
        config = self.programs.config
        weights = sum(part.nbytes for name in self.model.constants for part in self.model.constants[name].weights)
        if not run.shape.head:
            weights -= sum(part.nbytes for part in self.model.constants["head"].weights)
        seen = 2 * self.model.sizes.layers * (run.position + run.count) * self.model.sizes.key_channels
        sendable = prediction.cycles * config.managers * self.programs.timing.available * config.host_bits / 8
        return {
            "predicted_cycles": prediction.cycles,
            "memory_useful": (weights + seen) / sendable,
            "busy": float(prediction.nodes["x_words"].sum()) / (prediction.cycles * config.pods),
        }

    def _simulate(
        self, network: CompiledNetwork, prediction: Prediction, inputs: dict[str, NDArray], tensors: dict[str, NDArray]
    ) -> dict[str, Any]:
        """The same run in RTL."""
        device = self.device
        assert device
        assert self.programs
        # In the order in which they were placed: a program uses what those before it have put into memory.
        for image in self.programs.images[self._loaded :]:
            device.load(image)
        self._loaded = len(self.programs.images)
        if device.image is not network.memory:
            device.select(network.memory)
        for name, tensor in inputs.items():
            if name not in self._caches or self._stale:
                device.write_input(name, tensor)
        self._stale = False
        device.run(
            max_cycles=2 * prediction.cycles + 100_000,
            progress=lambda cycles: self.progress(f"simulating {network.graph.name}: {min(1.0, cycles / prediction.cycles):.0%}"),
        )
        counters = device.counters()
        comparison = Comparison(counters.device["CYCLES"], prediction.cycles)
        for name in network.graph.outputs:
            comparison.values(name, tensors[name], device.read_output(name))
        comparison.counters(prediction.counters, counters.device)
        comparison.counters(prediction.nodes, counters.nodes)
        return {"cycles": counters.device["CYCLES"], "comparison": comparison}

    def compare_caches(self) -> Comparison | None:
        """In RTL: keys and values in the memory of the device, held against those of the golden model, as far as the last program
        sees them."""
        if not self.device or self.device.image is None or self._stale:
            return None
        comparison, count = Comparison(0, 0), len(self.tokens)
        for name, cache in self._caches.items():
            got = self.device.read_input(name)
            seen = min(count, got.shape[2])
            comparison.values(name, cache[:, :, :seen], got[:, :, :seen])
        return comparison

    def save(self, path: Path) -> None:
        """Write text and caches to one file, of the format of NumPy's ``npz``; in RTL, caches are those of the device's memory."""
        count = len(self.tokens)
        caches = {name: cache[:, :, :count] for name, cache in self._caches.items()}
        if self.device and self.device.image is not None and not self._stale:
            held = {name: self.device.read_input(name) for name in caches}
            caches = {name: held[name][:, :, :count] for name in caches}
        about = np.array([_STATE, self.model.digest])
        with path.open("wb") as file:
            np.savez_compressed(file, about=about, tokens=np.array(self.tokens, np.int64), **caches)  # type: ignore[arg-type]

    def restore(self, path: Path) -> None:
        """Go on with what `save` wrote; raises `WorkloadError` if it is no such file, of another model, or too long."""
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                held = {name: file[name] for name in file.files}
            kind, digest = held.pop("about").tolist()
            tokens = held.pop("tokens").tolist()
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
            raise WorkloadError(f"{path} is no session that podweave chat wrote, or not a whole one: {error}") from error
        if kind != _STATE:
            raise WorkloadError(f"{path}: the format must be {_STATE!r}, got {kind!r}")
        if digest != self.model.digest:
            raise WorkloadError(f"{path} is of another model than {self.model.name}: its hash is {digest}, not {self.model.digest}")
        if len(tokens) > self.capacity:
            raise WorkloadError(f"{path} holds {len(tokens)} tokens, more than a context of {self.capacity}")
        for name, cache in self._caches.items():
            if name not in held or held[name].shape != cache[:, :, : len(tokens)].shape or held[name].dtype != np.int8:
                raise WorkloadError(f"{path}: {name} must be int8 {cache[:, :, : len(tokens)].shape}")
            cache[:, :, : len(tokens)] = held[name]
        self.tokens, self._stale = tokens, True


@contextlib.contextmanager
def open_session(
    model: IntegerModel,
    config: ChipConfig,
    way: str,
    *,
    capacity: int,
    chunk: int = CHUNK,
    timing: HbmTiming | None = None,
    threads: int = 1,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Iterator[Session]:
    """A session for the body of the ``with``. ``way``: one of `WAYS`; in RTL a simulator runs as long as it.

    ``timing``: of the memory. ``threads``: cores to simulate with; ``seed``: of the initial state of the simulator.

    Raises `WorkloadError` for a way or sizes that do not go.
    """
    if way not in WAYS:
        raise WorkloadError(f"a session runs by one of {', '.join(WAYS)}, got {way!r}")
    if capacity > model.context:
        raise WorkloadError(f"{model.name} was made for a context of {model.context}, got {capacity}")
    if capacity <= len(model.prefix):
        raise WorkloadError(f"a context must hold more than the {len(model.prefix)} tokens in front of all texts, got {capacity}")
    lanes = config.array.cols
    if chunk < 1:
        raise WorkloadError(f"a prompt is run at least one token at a time, got {chunk}")
    if config.post is not None and config.has_rows:
        # Heads that share keys are rows of their own.
        chunk = max(1, min(chunk, config.post.row_registers * model.sizes.kv_heads // model.sizes.heads))
    timing = timing or HbmTiming()
    programs = None if way == "golden" else Programs(model, config, capacity, timing, progress)
    session = Session(model, lanes, capacity, chunk, programs, progress=progress)
    if way != "rtl":
        yield session
        return
    assert programs
    # What the configuration cannot run is said before anything is built.
    programs.compiled(decoding(len(model.prefix), lanes).shape)
    progress("emitting Verilog")
    bench = AcceleratorBench.of(config, threads=threads, progress=progress)
    with bench.session(timing=timing, seed=seed, channel_bytes=programs.memory.channel_bytes) as bus:
        session.device = Device(bus, config)
        yield session
