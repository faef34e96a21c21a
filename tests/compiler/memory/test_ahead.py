"""compiler.memory.ahead: what may be loaded ahead of its epoch, of every tensor; the rest is not, and nothing is loaded twice."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest

from podweave.compiler.chip.policy import BankPolicy
from podweave.compiler.compile_network import CompiledNetwork, CompileOptions, compile_network, in_channels
from podweave.compiler.compile_system import compile_system
from podweave.compiler.memory.ahead import Ahead, tensor_ratios
from podweave.compiler.memory.place import memory_image
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends import load_graph
from podweave.ir.frontends.language_models import DecoderSizes, HeadSettings, TextRows, decoder
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.layers import WorkloadError
from podweave.ir.partition import partition
from podweave.ir.partition_rows import partition_rows
from podweave.ir.row_graph import RowGraph
from podweave.predict.link_timing import LinkTiming
from podweave.predict.memory_timing import HbmTiming
from podweave.predict.system import predict_system
from podweave.runs.jobs import model_constants
from podweave.spec.descriptors import DescriptorKind
from podweave.spec.load_port import HostSelect
from podweave.spec.presets import load_config
from tests.compiler.memory import test_image
from tests.compiler.memory.test_image import config_of, network

CONFIG = load_config("llm8x16")
LLAMA = "llama_256_8_4_704_2,rows=1,context=200"
SLOW = HbmTiming(beat_sixteenths=64)
LINK = LinkTiming(beat_sixteenths=512)


@functools.cache
def ring(ratios: tuple[tuple[str, float], ...] = ()) -> tuple[CompiledNetwork, ...]:
    graph = load_graph(LLAMA)
    assert isinstance(graph, RowGraph)
    parts = partition(graph, model_constants(graph, scale_bits=CONFIG.scale_bits), 2)
    return compile_system(parts, CONFIG, CompileOptions(from_memory=True, check="never", prefetch_ratios=dict(ratios)))


def weights(compiled: CompiledNetwork, *, ahead: bool | None = None) -> Counter[tuple[int, ...]]:
    """Every word that is loaded into a W bank: manager, unit, word, epoch. ``ahead``: those that may be ahead of it, or may not."""
    found: Counter[tuple[int, ...]] = Counter()
    image = compiled.memory
    for manager, rings in enumerate(zip(image.demand, image.prefetch, strict=True)):
        for fields in (each.fields for each in rings):
            loads = (fields["select"] == HostSelect.W) & (fields["kind"] == DescriptorKind.LOAD)
            for i in np.flatnonzero(loads).tolist():
                d = {name: int(values[i]) for name, values in fields.items()}
                if ahead is not None and ahead != (d["after"] < d["tag"]):
                    continue
                steps = [np.arange(d["n0"]) * d["step0"]]
                run = (d["n0"] - 1) * d["step0"]
                steps.append(np.arange(d["n1"]) * (run + d["step1"]))
                steps.append(np.arange(d["n2"]) * (run + (d["n1"] - 1) * (run + d["step1"]) + d["step2"]))
                words = d["base"] + steps[2][:, None, None] + steps[1][:, None] + steps[0]
                found.update((manager, d["unit"], word, d["tag"]) for word in words.reshape(-1).tolist())
    return found


def test_ratio_1_is_the_program_without_ratios() -> None:
    for plain, one in zip(ring(), ring((("*", 1.0), ("layer0.*", 1))), strict=True):
        assert one.ratios == {}
        assert len(plain.memory.content) == len(one.memory.content)
        for (at, content), (other_at, other) in zip(plain.memory.content, one.memory.content, strict=True):
            assert at == other_at
            np.testing.assert_array_equal(content, other)


def test_the_same_words_are_loaded_once_whatever_the_ratio() -> None:
    ahead = []
    for ratio in (0.0, 0.3, 0.5, 0.8, 1.0):
        for plain, each in zip(ring(), ring((("*", ratio),)), strict=True):
            words = weights(each)
            assert words == weights(plain)
            assert max(words.values()) == 1
        ahead.append(weights(ring((("*", ratio),))[0], ahead=True).total())
    assert ahead == sorted(ahead)
    assert ahead[0] == 0 < ahead[1] < ahead[2] < ahead[3] < ahead[4]


def test_words_beyond_the_ratio_wait_for_the_epochs_before_theirs_and_hold_up_nothing() -> None:
    """They are in the demand ring, and the prefetch ring has nothing that must wait for the epoch before its own."""
    (plain, _), (half, _), (none, _) = ring(), ring((("*", 0.5),)), ring((("*", 0.0),))
    waiting = weights(plain, ahead=False)
    assert waiting < weights(half, ahead=False) < weights(none, ahead=False) == weights(none)
    for manager, fields in enumerate(each.fields for each in half.memory.demand):
        loads = (fields["select"] == HostSelect.W) & (fields["kind"] == DescriptorKind.LOAD)
        assert loads.any()
        assert (fields["after"] == fields["tag"])[loads].all(), manager
    for each, other in zip(none.memory.prefetch, plain.memory.prefetch, strict=True):
        assert not (each.fields["select"] == HostSelect.W).any()
        # Program stores and parameters go as they did.
        rest = other.fields["select"] != HostSelect.W
        for name in ("select", "unit", "base", "n0", "after", "tag"):
            kept = each.fields["kind"] == DescriptorKind.LOAD, rest & (other.fields["kind"] == DescriptorKind.LOAD)
            np.testing.assert_array_equal(each.fields[name][kept[0]], other.fields[name][kept[1]])


def test_a_tensor_alone_is_held_back() -> None:
    """Weights of one operation, and one cache."""
    plain, sizes = weights(ring()[0], ahead=True), {}
    for name in ("layer1.down", "layer1.keys"):
        held = plain - weights(ring(((name, 0.0),))[0], ahead=True)
        (epochs,) = {tuple(sorted({word[-1] for word in held}))}
        assert len(epochs) < 3, name
        sizes[name] = held.total()
    # 704 channels, of which a chip has half, times 256 outputs, 16 to a word.
    assert sizes["layer1.down"] == 704 // 2 * 256 // 16
    assert 0 < sizes["layer1.keys"] < sizes["layer1.down"]


def test_less_ahead_takes_longer_and_all_of_it_is_used() -> None:
    cycles, beneath = [], []
    for ratio in (1.0, 0.5, 0.0):
        chips = predict_system(ring((("*", ratio),)), SLOW, LINK)
        assert all(chip.counters["PREFETCH_UNUSED"] == 0 for chip in chips)
        cycles.append(max(chip.cycles for chip in chips))
        beneath.append(sum(chip.counters["BENEATH_BEATS"] for chip in chips))
    assert cycles[0] < cycles[1] < cycles[2]
    assert beneath[0] > beneath[1] > 10 * beneath[2]
    # What is left to be ahead is not what makes runs fast.
    off = max(chip.cycles for chip in predict_system(ring(), SLOW, LINK, prefetch=False))
    assert cycles[2] <= off < 1.1 * cycles[2]


def test_caches_that_only_other_chips_have_are_named_too() -> None:
    graph = decoder(DecoderSizes(64, 8, 4, 176, 1), [TextRows(1, 20), TextRows(1, 20, slot=1)], "texts")
    parts = partition_rows(graph, model_constants(graph, scale_bits=CONFIG.scale_bits), 2)
    options = CompileOptions(from_memory=True, check="never", prefetch_ratios={"keys.1": 0.5})
    assert [each.ratios for each in compile_system(parts, CONFIG, options)] == [{}, {"keys.1": 0.5}]


@pytest.mark.parametrize("eager", [False, True])
def test_layers_run_from_memory_with_ratios(monkeypatch: pytest.MonkeyPatch, eager: bool) -> None:
    ratios = {"a": 0.0, "b": 0.4, "d": 0.7}

    def limited(programs, constants, graph, passes):  # type: ignore[no-untyped-def]
        return memory_image(programs, constants, graph, passes=passes, ratios=ratios)

    monkeypatch.setattr(test_image, "memory_image", limited)
    image, (found,), (expected,) = test_image.run(config_of(2, 64, w_words=320, p_words=512), network(), eager=eager)
    assert any((each.fields["select"] == HostSelect.W).any() for each in image.demand)
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)


def test_parts_of_an_operation_have_its_ratio() -> None:
    config, graph = config_of(2, 64, w_words=128), network()
    constants = with_scale_bits(random_parameters(graph, 0), config.scale_bits)

    def compiled(ratios: Mapping[str, float]) -> CompiledNetwork:
        policy = BankPolicy(bank_share=0.25)
        return compile_network(graph, config, constants, CompileOptions(from_memory=True, policy=policy, prefetch_ratios=ratios))

    plain, limited, none = compiled({}), compiled({"d": 0}), compiled({"*": 0})
    assert len(plain.split.parts["d"]) > 1
    # Of four tiles or more of 12 channels at nine places, all that was ahead: three of them at least.
    less = weights(plain, ahead=True).total() - weights(limited, ahead=True).total()
    assert weights(limited, ahead=False).total() - weights(plain, ahead=False).total() == less >= 3 * 12 * 9
    assert weights(plain, ahead=True).total() > 0 == weights(none, ahead=True).total()
    # A memory of another size has them too.
    larger = in_channels(limited, 2 * limited.memory.channel_bytes)
    assert weights(larger, ahead=True) == weights(limited, ahead=True) != weights(plain, ahead=True)


def test_of_every_manager_the_nearest_number_of_descriptors_is_ahead() -> None:
    for ratio in (0.0, 0.1, 1 / 3, 0.5, 0.75, 1.0):
        ahead = Ahead({"w": ratio, "v": 0.5} if ratio < 1 else {"v": 0.5})
        found = [0, 0]
        for count in range(1, 41):
            for manager in (0, 1):
                found[manager] += 512 * ahead.allows(manager, "w", 512)
                assert abs(found[manager] - ratio * 512 * count) <= 256
            ahead.allows(0, "v", 512)
            assert ahead.allows(0, None, 512)


@pytest.mark.parametrize("ratio", [-0.01, 1.01, math.nan, math.inf])
def test_what_is_no_ratio_is_refused(ratio: float) -> None:
    with pytest.raises(WorkloadError, match=f"^a prefetch ratio is between 0 and 1, got {ratio} for 'a'$"):
        tensor_ratios({"*": 0.5, "a": ratio}, ("a",), "net")


def test_names_that_no_tensor_has_are_refused() -> None:
    sentence = "net has no weights, keys or values 'x*' for a prefetch ratio; it has a, b"
    with pytest.raises(WorkloadError, match=f"^{re.escape(sentence)}$"):
        tensor_ratios({"x*": 0.5}, ("b", "a"), "net")
    with pytest.raises(WorkloadError, match=r"it has n00, .*, n23 and 6 more$"):
        tensor_ratios({"x*": 0.5}, [f"n{i:02}" for i in range(30)], "net")
    with pytest.raises(WorkloadError, match="'z' for a prefetch ratio; it has "):
        ring((("z", 0.5),))
    graph = network()
    with pytest.raises(WorkloadError, match=r"^prefetch_ratios are of networks that run from memory, and net does not$"):
        compile_network(graph, config_of(), None, CompileOptions(prefetch_ratios={"a": 0.5}))


def test_a_name_is_itself_before_it_is_a_pattern() -> None:
    assert tensor_ratios({"a[1]": 0.5}, ("a1", "a[1]"), "net") == {"a[1]": 0.5}
    assert tensor_ratios({"a[12]": 0.5, "*": 0.75, "a2": 1}, ("a1", "a2"), "net") == {"a1": 0.75}


def test_all_that_is_loaded_into_w_banks_has_a_name() -> None:
    texts = [TextRows(2, 41), TextRows(1, 40, slot=1, shared=32), TextRows(1, 39, slot=2, shared=32)]
    graphs = [load_graph(workload) for workload in ("encoder_32_2_64,rows=4", "vit_16_4_16_2_32", "digits")]
    for graph in (decoder(DecoderSizes(64, 8, 4, 176, 2), texts, "texts", head=HeadSettings(40)), *graphs):
        options = CompileOptions(from_memory=True, check="never", prefetch_ratios={"*": 0})
        compiled = compile_network(graph, CONFIG, model_constants(graph, scale_bits=CONFIG.scale_bits), options)
        assert weights(compiled).total() > 0
        assert not any((each.fields["select"] == HostSelect.W).any() for each in compiled.memory.prefetch), graph.name
