"""Points of studies of language models: decoder layers, and what makes logits, for some rows on a chip with a memory."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace

from podweave.compiler.compile_network import CompileOptions, compile_network
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends.language_models import DecoderBuilder, DecoderSizes, HeadSettings, TextRows, decoder
from podweave.ir.frontends.random_rows import random_row_parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.row_graph import RowGraph
from podweave.ir.row_operations import Format
from podweave.predict.accelerator import predict_accelerator
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ConfigError
from podweave.spec.presets import load_config

from .points import Figures


@dataclass(frozen=True)
class ModelShape:
    """A language model of Llama's shape; ``sizes``: of all of its layers."""

    name: str
    sizes: DecoderSizes
    vocabulary: int

    @property
    def layer_weights(self) -> int:
        """Bytes of int8 in the matrices of a layer."""
        sizes = self.sizes
        attention = 2 * sizes.hidden * (sizes.query_channels + sizes.key_channels)
        return attention + 3 * sizes.hidden * sizes.intermediate

    @property
    def head_weights(self) -> int:
        """The same of what makes logits."""
        return self.sizes.hidden * self.vocabulary

    @property
    def weights(self) -> int:
        """All that a token takes."""
        return self.sizes.layers * self.layer_weights + self.head_weights


@dataclass(frozen=True)
class MemoryWidth:
    """``managers`` of ``data_width`` bits, each with a beat in ``beat_sixteenths`` sixteenths of a cycle."""

    managers: int = 4
    data_width: int = 128
    beat_sixteenths: int = 16

    @property
    def bytes_per_cycle(self) -> float:
        return self.managers * self.data_width / 8 * 16 / self.beat_sixteenths

    @property
    def timing(self) -> HbmTiming:
        return HbmTiming(beat_sixteenths=self.beat_sixteenths)

    def config(self, preset: str) -> ChipConfig:
        """A preset with such ports to memory."""
        return load_config(preset).replace(managers=self.managers, data_width=self.data_width)

    def sendable(self, cycles: float) -> float:
        """Bytes that the memory can send in so many cycles, outside of refreshes."""
        return cycles * self.managers * self.data_width / 8 * self.timing.available


@dataclass(frozen=True)
class LanguagePoint:
    """Some layers of a model in a run by themselves.

    Parameters
    ----------
    preset : str
        The chip, but for its ports to memory.
    model : ModelShape
        Of which layers are taken.
    layers : int
        How many; 0 for the last norm and the vocabulary alone.
    rows, context : int
        Tokens of one sequence that are computed, and keys that the last of them sees, its own too.
    vocabulary : int
        Logits behind the layers, or none.
    memory : MemoryWidth
        Its width.
    """

    preset: str
    model: ModelShape
    layers: int
    rows: int
    context: int
    vocabulary: int = 0
    memory: MemoryWidth = MemoryWidth()

    def graph(self) -> RowGraph:
        sizes = self.model.sizes
        head = HeadSettings(self.vocabulary) if self.vocabulary else None
        if self.layers:
            return decoder(replace(sizes, layers=self.layers), [TextRows(self.rows, self.context)], self.model.name, head=head)
        assert head
        builder = DecoderBuilder(self.rows)
        y = builder.norm("norm", builder.input("x", Format.WIDE, sizes.hidden), sizes.hidden, head.norm)
        builder.linear("head", y, sizes.hidden, self.vocabulary, Format.WIDE)
        return builder.graph(self.model.name)

    def identity(self) -> object:
        # Presets are no sources: the chip itself.
        return ("language", repr(self.memory.config(self.preset)), sorted(asdict(self).items(), key=lambda item: item[0]))

    def cost(self) -> float:
        sizes = self.model.sizes
        attention = self.context * sizes.key_channels * self.rows**0.5
        return self.layers * (self.model.layer_weights + attention) + sizes.hidden * self.vocabulary

    def figures(self) -> Figures:
        """Cycles from start to done, ``x_words`` that all pods stream, epochs; or ``{"refused": sentence}`` if it does not fit."""
        try:
            graph, config = self.graph(), self.memory.config(self.preset)
            # Values do not change cycles.
            constants = with_scale_bits(random_row_parameters(graph, with_weights=False), config.scale_bits)
            began = time.perf_counter()
            network = compile_network(graph, config, constants, CompileOptions(from_memory=True))
        except (ConfigError, WorkloadError) as error:
            return {"refused": str(error)}
        compiled = time.perf_counter()
        prediction = predict_accelerator(network, self.memory.timing)
        return {
            "cycles": prediction.cycles,
            "x_words": int(prediction.nodes["x_words"].sum()),
            "epochs": len(network.epochs),
            "compile_s": compiled - began,
            "model_s": time.perf_counter() - compiled,
        }
