"""podweave.runs.kept_networks: what is read is what would be compiled, and only for the very same network."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from podweave.compiler.chip.policy import BankPolicy
from podweave.compiler.compile_network import CompiledNetwork, CompileOptions
from podweave.compiler.memory.shared import SharedMemory
from podweave.ir.constants import Constants
from podweave.ir.graph import Graph
from podweave.ir.row_operations import Format
from podweave.runs import kept_networks
from podweave.runs.jobs import model_constants
from podweave.runs.kept_networks import compile_kept, network_key
from podweave.runs.workloads import load_graph
from podweave.spec.config import ChipConfig
from podweave.spec.presets import load_config
from tests.compiler.chip.chip_graphs import equal

CONFIG = load_config("chip4x16")
OPTIONS = CompileOptions(from_memory=True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PODWEAVE_CACHE", str(tmp_path))
    monkeypatch.setattr(kept_networks, "WORTH_KEEPING_S", 0)
    return tmp_path / "networks"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return load_graph("gemm:64x48x32")


@pytest.fixture(scope="module")
def constants(graph: Graph) -> Constants:
    return model_constants(graph, scale_bits=CONFIG.scale_bits)


def never(*_: Any, **__: Any) -> CompiledNetwork:
    raise AssertionError("compiled again")


def require_equal(found: CompiledNetwork, expected: CompiledNetwork) -> None:
    assert len(found.epochs) == len(expected.epochs) > 0
    assert all(map(equal, found.programs, expected.programs))
    if expected.image is not None:
        assert found.memory.channel_bytes == expected.memory.channel_bytes
        for (at, piece), (where, other) in zip(found.memory.content, expected.memory.content, strict=True):
            assert at == where
            assert_array_equal(piece, other, strict=True)


@pytest.mark.parametrize(("workload", "preset"), [("gemm:64x48x32", "chip4x16"), ("digits", "chip4x16"), ("norm_64", "llm8x16")])
def test_read_is_what_was_compiled(workload: str, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, config = load_graph(workload), load_config(preset)
    constants = model_constants(graph, scale_bits=config.scale_bits)
    first = compile_kept(graph, config, constants, OPTIONS)
    monkeypatch.setattr(kept_networks, "compile_network", never)
    second = compile_kept(load_graph(workload), config, constants, OPTIONS)
    assert second is not first
    require_equal(second, first)
    assert all(values.dtype == np.int64 for program in second.programs for values in program.streams.values())


def test_constants_are_those_that_were_given(graph: Graph, constants: Constants, cache: Path) -> None:
    """They are not written: a network of gigabytes of weights is no larger than its programs."""
    compile_kept(graph, CONFIG, constants, OPTIONS)
    found = compile_kept(graph, CONFIG, constants, OPTIONS)
    assert found.graph is graph
    assert found.constants is not None
    (name,) = constants
    assert found.constants[name].weights[0] is constants[name].weights[0]


def changed(constants: Constants) -> Constants:
    (name,) = constants
    weights = constants[name].weights[0].copy()
    weights.flat[-1] ^= 1
    return Constants({name: dataclasses.replace(constants[name], weights=(weights,))})


def test_keys_are_of_all_that_is_compiled(graph: Graph, constants: Constants, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(graph: Graph = graph, config: ChipConfig = CONFIG, constants: Constants | None = constants, **options: Any) -> str:
        return network_key(graph, config, constants, dataclasses.replace(OPTIONS, **options))

    other = dataclasses.replace(graph, operations=tuple(dataclasses.replace(o, after=("x",)) for o in graph.operations))
    keys = [
        key(),
        key(graph=other),
        key(config=CONFIG.replace(x_words=2 * CONFIG.memory.x_words)),
        key(constants=changed(constants)),
        key(constants=None),
        key(from_memory=False),
        key(partition=32),
        key(policy=BankPolicy(bank_share=0.5)),
        key(channel_bytes=1 << 20),
        key(check="always"),
    ]
    monkeypatch.setattr(kept_networks, "versions", lambda: ("of other sources",))
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == key(graph=load_graph("gemm:64x48x32"))


def test_sources_of_the_compiler_count() -> None:
    names = {folder.name for folder in kept_networks.COMPILING}
    assert names == {"spec", "ir", "compiler"}
    assert all((folder / "__init__.py").is_file() for folder in kept_networks.COMPILING)


@pytest.mark.parametrize("position", [0, 40, -1])
def test_damaged_files_are_compiled_anew(graph: Graph, constants: Constants, cache: Path, position: int) -> None:
    first = compile_kept(graph, CONFIG, constants, OPTIONS)
    (file,) = cache.iterdir()
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)
    require_equal(compile_kept(graph, CONFIG, constants, OPTIONS), first)
    content[position] ^= 1
    assert hashlib.sha256(file.read_bytes()[32:]).digest() == file.read_bytes()[:32]
    for cut in (b"", bytes(content[:20]), bytes(content[:-1])):
        file.write_bytes(cut)
        require_equal(compile_kept(graph, CONFIG, constants, OPTIONS), first)


class Foreign:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("made by a file of the cache",)


def test_nothing_foreign_is_made(graph: Graph, constants: Constants, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compile_kept(graph, CONFIG, constants, OPTIONS)
    (file,) = cache.iterdir()
    monkeypatch.chdir(cache)
    content = pickle.dumps(Foreign())
    file.write_bytes(hashlib.sha256(content).digest() + content)
    require_equal(compile_kept(graph, CONFIG, constants, OPTIONS), first)
    assert list(cache.iterdir()) == [file]


def test_what_was_not_used_for_longest_goes(
    graph: Graph, constants: Constants, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = (0.5, 0.4, 0.3)
    options = [dataclasses.replace(OPTIONS, policy=BankPolicy(bank_share=share)) for share in shares]
    files = [cache / f"{network_key(graph, CONFIG, constants, each)}.network" for each in options]
    for number, each in enumerate(options[:2]):
        compile_kept(graph, CONFIG, constants, each)
        os.utime(files[number], (number + 1, number + 1))
    # The first is used again; then there is room for two.
    compile_kept(graph, CONFIG, constants, options[0])
    monkeypatch.setattr(kept_networks, "MOST_BYTES", int(2.5 * files[0].stat().st_size))
    compile_kept(graph, CONFIG, constants, options[2])
    assert [file.exists() for file in files] == [True, False, True]


def test_a_cache_that_cannot_be_written(
    graph: Graph, constants: Constants, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("PODWEAVE_CACHE", str(tmp_path / "file"))
    assert compile_kept(graph, CONFIG, constants, OPTIONS).epochs


def test_networks_beside_others_are_compiled(graph: Graph, constants: Constants, cache: Path) -> None:
    """Where they lie depends on what lies there."""
    options = dataclasses.replace(OPTIONS, shared=SharedMemory(CONFIG, 1 << 20))
    compile_kept(graph, CONFIG, constants, options)
    assert not cache.exists()


def test_short_compilations_are_not_kept(graph: Graph, constants: Constants, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_networks, "WORTH_KEEPING_S", 1e9)
    compile_kept(graph, CONFIG, constants, OPTIONS)
    assert not cache.exists()


def test_what_differs_has_another_key(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in settings: of other types, in other places, in sets, in arrays with elements that are one in memory."""
    values: list[object] = [None, True, 1, 1.5, "1", b"1", (), ("a", "bc"), ("ab", "c"), ("abc",), {"a": 1}, {"a": 2}, {1: "a"}]
    values += [frozenset({"a", "b"}), ("set", "a", "b"), ("a", "b"), Format.INT8, np.zeros(3, np.int8), np.zeros(4, np.int8)]
    values += [np.zeros(3, np.int16), np.broadcast_to(np.int8(0), 5), np.array([0, 0, 1], np.int8)]

    def key(value: object) -> str:
        monkeypatch.setattr(kept_networks, "versions", lambda: value)
        return network_key(graph, CONFIG, None, OPTIONS)

    keys = [key(value) for value in values]
    assert len(set(keys)) == len(keys)
    assert key(np.int64(1)) == key(1)
    assert key({"a", "b"}) == key(frozenset({"b", "a"}))
    with pytest.raises(TypeError, match=r"^a network cannot be kept by a range$"):
        key(range(3))
