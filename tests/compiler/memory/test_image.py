"""compiler.memory.image, executed: descriptors move bytes, jobs are decoded from program stores, outputs are the golden ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from podweave.compiler.chip.epoch_cutter import compile_epochs
from podweave.compiler.chip.policy import BankPolicy
from podweave.compiler.memory.image import MemoryImage
from podweave.compiler.memory.moves import RunWriter
from podweave.compiler.memory.place import memory_image
from podweave.compiler.memory.rings import RingBuilder
from podweave.compiler.plan.compile_plan import compile_cut
from podweave.golden.graph import evaluate
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer, WorkloadError
from podweave.ir.operations import Linear, Operand, Window
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import PrefetchConfig
from podweave.spec.descriptors import DescriptorKind
from podweave.spec.load_port import HostSelect
from podweave.spec.presets import load_config
from tests.compiler.chip.policies import HALF
from tests.compiler.memory.image_machine import run_image


def config_of(managers: int = 2, width: int = 64, *, pass_bits: int = 0, **changes: int) -> ChipConfig:
    base = load_config("chip4x16").replace(rows=4, cols=4, group_rows=2, group_cols=2, lanes=0)
    sizes = {"x_words": 512, "w_words": 512, "p_words": 1024, "x_parts": 1, "accumulator_rows": 16, "tables": 4}
    return dataclasses.replace(
        base.replace(**(sizes | changes)),
        prefetch=PrefetchConfig(managers=managers, data_width=width, max_burst=8, pass_bits=pass_bits),
    )


def conv(name: str, sources: tuple[str, ...], size: int, channels: int, outputs: int, kernel: int = 1, **more: Any) -> Operand:
    pad = more.pop("pad_value", 0)
    padding = ((kernel // 2, kernel // 2),) * 2
    layer = Layer(
        name=name, height=size, width=size, channels=channels, outputs=outputs, kernel=(kernel, kernel), padding=padding, **more
    )
    return Operand(sources, layer, pad)


def network() -> Graph:
    nodes = [
        Linear("a", (conv("a", ("image",), 8, 3, 12, 3),)),
        Linear("b", (conv("b", ("a",), 8, 12, 12, 3),)),
        Linear("c", (conv("c", ("b",), 8, 12, 12), conv("r", ("a",), 8, 12, 12, groups=12))),
        Linear("side", (conv("side", ("b",), 8, 12, 5),)),
        Linear("pool", (conv("pool", ("c",), 8, 12, 12, 1, groups=12),), Window("max", (2, 2), (2, 2)), identity=True),
        Linear("d", (conv("d", ("pool",), 4, 12, 20, 3), conv("s", ("small",), 4, 4, 20))),
        Linear("e", (conv("e", ("d",), 4, 20, 7),)),
    ]
    return Graph("net", {"image": (1, 8, 8, 3), "small": (1, 4, 4, 4)}, tuple(nodes))


def run(
    config: ChipConfig, graph: Graph, *, eager: bool, share: float = 0.5, seed: int = 0, runs: tuple[int, ...] = (1,), cut: int = 0
) -> tuple[MemoryImage, list[dict], list[dict]]:
    """Runs of so many passes, the first one cold; what the passes of the last one left, and what they should."""
    assert config.post is not None
    parameters = constants = with_scale_bits(random_parameters(graph, seed), config.scale_bits)
    programs = compile_cut(graph, config, BankPolicy(bank_share=share, first_epoch_share=1.0), tables=constants.table_of, cut=cut)
    image = memory_image(programs, constants, graph, passes=max(runs))
    feeds, found = run_image(image, programs, graph, eager=eager, seed=seed, runs=runs)
    for name, where in image.outputs.items():
        assert cut or len(where.elements) == np.prod(where.shape)
        assert name in graph.outputs
    return image, found, [evaluate(graph, parameters, inputs) for inputs in feeds]


@pytest.mark.parametrize(
    ("managers", "width", "changes", "eager"),
    [
        (1, 64, {}, False),
        (2, 64, {"w_words": 320, "p_words": 512}, True),
        (4, 256, {"w_words": 300, "x_words": 400, "post_jobs": 160}, True),
        (1, 512, {"rows": 4, "cols": 8, "x_words": 256, "parameter_sets": 16}, False),
        (2, 128, {"rows": 8, "cols": 4, "stream_jobs": 160, "load_jobs": 128}, True),
        # As early as may be, and as late.
        (2, 64, {"w_words": 320, "p_words": 512, "x_parts": 8}, True),
        (1, 64, {"w_words": 320, "p_words": 512, "x_parts": 8}, False),
    ],
)
def test_network_runs_from_its_image(managers: int, width: int, changes: dict[str, int], eager: bool) -> None:
    image, (found,), (expected,) = run(config_of(managers, width, **changes), network(), eager=eager)
    assert set(found) == {"side", "e"}
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)
    assert image.epochs > 1 or not changes


@pytest.mark.parametrize(
    ("managers", "runs", "changes", "eager"),
    [
        (2, (1, 3), {"w_words": 320, "p_words": 512}, True),
        pytest.param(4, (4, 2), {"w_words": 300, "x_words": 400, "post_jobs": 160}, True, marks=pytest.mark.campaign),
        # Inputs and outputs move beside epochs, over the seam too.
        (2, (1, 3), {"w_words": 320, "p_words": 512, "x_parts": 8}, True),
        # All of it stays.
        (1, (2, 1), {"w_words": 2048, "load_jobs": 512, "stream_jobs": 512, "post_jobs": 2048}, False),
    ],
)
def test_runs_of_several_passes(managers: int, runs: tuple[int, ...], changes: dict[str, int], eager: bool) -> None:
    """What is not on the chip any more is loaded as early as it may be, in the pass before too."""
    image, found, expected = run(config_of(managers, 64, pass_bits=3, **changes), network(), eager=eager, runs=runs)
    assert len(found) == runs[-1]
    for outputs, right in zip(found, expected, strict=True):
        for name, tensor in outputs.items():
            np.testing.assert_array_equal(tensor, right[name], err_msg=name)
    again = [ring.fields for ring in image.warm_prefetch]
    loaded = sum(int((fields["kind"] == DescriptorKind.LOAD).sum()) for fields in again)
    assert (loaded > 0) == ("p_words" in changes or "x_words" in changes)


@pytest.mark.parametrize("seam", [False, True])
def test_a_load_that_may_begin_too_early_over_the_seam_is_seen(seam: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    config, original = config_of(2, 64, w_words=300, p_words=512, pass_bits=3), RunWriter._pass

    def careless(self: RunWriter, rings: Any, number: int) -> None:
        if seam and number:
            for free in self._free.values():
                free[:] = 0
        original(self, rings, number)

    monkeypatch.setattr(RunWriter, "_pass", careless)
    _, found, expected = run(config, network(), eager=True, runs=(2,))
    wrong = [any((outputs[name] != right[name]).any() for name in outputs) for outputs, right in zip(found, expected, strict=True)]
    assert any(wrong) == seam


def test_passes_that_there_cannot_be() -> None:
    def image(config: ChipConfig, passes: int) -> MemoryImage:
        graph = network()
        constants = with_scale_bits(random_parameters(graph, 0), config.scale_bits)
        programs = compile_epochs(graph, config, HALF, tables=constants.table_of)
        return memory_image(programs, constants, programs[0].graph, passes=passes)

    few = config_of(pass_bits=3, w_words=320)
    assert image(few, 7).passes == 7
    with pytest.raises(WorkloadError, match=r"^8 passes asked for, a run on chip4x16 has at most 7 \(pass_bits of \[prefetch\]\)$"):
        image(few, 8)
    with pytest.raises(WorkloadError, match=r"^2 passes asked for, a run on chip4x16 has one \(pass_bits of \[prefetch\]\)$"):
        image(config_of(pass_bits=0), 2)
    many = config_of(pass_bits=16, w_words=320)
    epochs = image(many, 2).epochs
    count = 65534 // epochs + 1
    with pytest.raises(
        WorkloadError, match=rf"^{count} passes of {epochs} epochs are {count * epochs} epochs, a run has at most 65534$"
    ):
        image(many, count)


def test_words_are_loaded_while_an_epoch_runs() -> None:
    image, *_ = run(config_of(2, 64, w_words=320, p_words=512), network(), eager=True)
    early = [ring.fields["after"] < ring.fields["tag"] for ring in image.prefetch]
    assert all(flags.any() for flags in early)


def test_descriptor_that_may_begin_too_early_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(2, 64, w_words=300, p_words=512)
    original = RingBuilder.add

    def careless(self: RingBuilder, select: HostSelect, *arguments: Any, after: int = 0, **more: Any) -> None:
        original(self, select, *arguments, after=0 if select == HostSelect.W else after, **more)

    monkeypatch.setattr(RingBuilder, "add", careless)
    _, (found,), (expected,) = run(config, network(), eager=True)
    assert any((found[name] != expected[name]).any() for name in found)


def fed(count: int) -> Graph:
    """Each operation reads the one before and an input of its own, and is an output."""
    nodes = []
    for i in range(count):
        operands = [conv(f"n{i}", (f"n{i - 1}" if i else "in",), 6, 8, 8, 3), conv(f"f{i}", (f"in{i}",), 6, 8, 8)]
        nodes.append(Linear(f"n{i}", tuple(operands)))
    inputs = {"in": (1, 6, 6, 8)} | {f"in{i}": (1, 6, 6, 8) for i in range(count)}
    return Graph("fed", inputs, tuple(nodes), tuple(node.name for node in nodes))


BESIDE = {"w_words": 80, "x_parts": 8, "x_words": 512}


@pytest.mark.parametrize("eager", [False, True])
def test_words_are_loaded_and_stored_beside_epochs(eager: bool) -> None:
    image, (found,), (expected,) = run(config_of(2, 64, **BESIDE), fed(6), eager=eager)
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)
    counts = sum(np.bincount(ring.fields["kind"] * (ring.fields["beside"] == 1), minlength=3) for ring in image.prefetch)
    assert counts[DescriptorKind.LOAD] > 8
    assert counts[DescriptorKind.STORE] > 8
    assert not any(ring.fields["beside"].any() for ring in image.demand)


@pytest.mark.parametrize("kind", [DescriptorKind.LOAD, DescriptorKind.STORE])
def test_descriptor_that_begins_too_early_beside_an_epoch_is_seen(kind: DescriptorKind, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(2, 64, **BESIDE | {"x_words": 256})
    original = RingBuilder.add

    def careless(self: RingBuilder, *arguments: Any, after: int = 0, **more: Any) -> None:
        early = more.get("beside") and more.get("kind", DescriptorKind.LOAD) == kind
        original(self, *arguments, after=0 if early else after, **more)

    monkeypatch.setattr(RingBuilder, "add", careless)
    _, (found,), (expected,) = run(config, fed(6), eager=True)
    assert any((found[name] != expected[name]).any() for name in found)


def test_small_channel_is_refused() -> None:
    config = config_of()
    graph = network()
    constants = with_scale_bits(random_parameters(graph, 0), config.scale_bits)
    programs = compile_epochs(graph, config, HALF, tables=constants.table_of)
    with pytest.raises(WorkloadError, match=r"needs \d+ bytes of a memory channel, \d+ more than it has"):
        memory_image(programs, constants, programs[0].graph, channel_bytes=4096)
