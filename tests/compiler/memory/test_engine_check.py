"""compiler.memory.engine_check: what engines do beside epochs is held against what these do; each rule is seen to be broken."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from podweave.compiler.chip.epoch_cutter import compile_epochs
from podweave.compiler.chip.epoch_program import EpochProgram
from podweave.compiler.jobs import ProgramError
from podweave.compiler.memory.engine_check import check_engines
from podweave.compiler.memory.image import MemoryImage
from podweave.compiler.memory.place import memory_image
from podweave.compiler.memory.rings import Ring
from podweave.fuzz.random_layers import random_graph
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends.random_constants import random_parameters
from podweave.ir.layers import WorkloadError
from podweave.spec.descriptors import DescriptorKind
from podweave.spec.load_port import HostSelect
from tests.compiler.chip.policies import HALF
from tests.compiler.memory.test_image import config_of, fed

LOAD, STORE = DescriptorKind.LOAD, DescriptorKind.STORE


@pytest.fixture(scope="module")
def compiled() -> tuple[MemoryImage, Sequence[EpochProgram]]:
    config, graph = config_of(2, 64, w_words=80, x_words=256, x_parts=4), fed(6)
    constants = with_scale_bits(random_parameters(graph, 0), config.scale_bits)
    programs = compile_epochs(graph, config, HALF, tables=constants.table_of)
    return memory_image(programs, constants, programs[0].graph), programs


def changed(image: MemoryImage, which: Callable[[dict[str, Any]], Any], fields: dict[str, int]) -> MemoryImage:
    """The first descriptor of prefetch rings for which ``which`` holds, with other fields."""
    rings = []
    found = False
    for ring in image.prefetch:
        values = {name: column.copy() for name, column in ring.fields.items()}
        for i in range(len(ring)):
            if not found and which({name: int(column[i]) for name, column in values.items()}):
                found = True
                for name, value in fields.items():
                    values[name][i] = value
        rings.append(Ring(ring.base, values))
    assert found
    return dataclasses.replace(image, prefetch=tuple(rings))


def refused(image: MemoryImage, programs: Sequence[Any]) -> str:
    with pytest.raises(ProgramError) as caught:
        check_engines(image, programs)
    return str(caught.value)


def beside(kind: DescriptorKind, tag: int) -> Callable[[dict[str, Any]], Any]:
    return lambda d: d["beside"] and d["kind"] == kind and d["tag"] >= tag


def test_what_the_compiler_makes_is_legal(compiled: tuple[MemoryImage, Sequence[EpochProgram]]) -> None:
    image, programs = compiled
    check_engines(image, programs)
    assert sum(int(ring.fields["beside"].sum()) for ring in image.prefetch) > 20


STEPS = {"n0": 1, "n1": 2, "n2": 2, "step1": 64, "step2": 64, "base": 0}
PLANTED: dict[str, tuple[DescriptorKind, int, dict[str, int]]] = {
    "a load that may begin at any time": (LOAD, 3, {"after": 0}),
    "a store beside the epoch that makes it": (STORE, 3, {"after": 0}),
    "a store that may take until the end": (STORE, 3, {"tag": 6}),
    "words far apart": (LOAD, 3, {"step0": 85, "n0": 4, "base": 0}),
    "words of loops": (LOAD, 3, STEPS),
}


@pytest.mark.parametrize(
    ("parts", "seeds"), [(8, range(8)), *(pytest.param(parts, range(60), marks=pytest.mark.campaign) for parts in (2, 4, 16, 64))]
)
def test_random_graphs_are_legal(parts: int, seeds: range) -> None:
    """Banks that are small for their epochs, and words that lie across parts."""
    config, beside = config_of(2, 64, x_words=256, w_words=200, x_parts=parts), 0
    for seed in seeds:
        graph = random_graph(seed)
        constants = with_scale_bits(random_parameters(graph, seed), config.scale_bits)
        try:
            programs = compile_epochs(graph, config, HALF, tables=constants.table_of)
        except WorkloadError:
            # What fits into banks without parts fits.
            with pytest.raises(WorkloadError):
                compile_epochs(graph, config.replace(x_parts=1), HALF, tables=constants.table_of)
            continue
        image = memory_image(programs, constants, programs[0].graph)
        check_engines(image, programs)
        beside += sum(int(ring.fields["beside"].sum()) for ring in image.prefetch)
    assert beside > len(seeds) // 4


@pytest.mark.parametrize("fault", PLANTED)
def test_parts_in_use_are_refused(compiled: tuple[MemoryImage, Sequence[EpochProgram]], fault: str) -> None:
    image, programs = compiled
    kind, tag, fields = PLANTED[fault]
    sentence = refused(changed(image, beside(kind, tag), fields), programs)
    assert re.fullmatch(
        rf"{kind.name.lower()} \d+ of ring 1 of manager \d may be under way in epoch \d, which uses part \d of X bank \d", sentence
    )


def test_epochs_that_are_none_of_layers_use_all(compiled: tuple[MemoryImage, Sequence[EpochProgram]]) -> None:
    image, programs = compiled
    others: list[Any] = list(programs)
    others[2] = object()
    assert refused(image, others).endswith("may be under way in epoch 2, which is none of layers")


def test_a_load_before_the_store_of_its_place_is_refused(
    compiled: tuple[MemoryImage, Sequence[EpochProgram]],
) -> None:
    """What is loaded where an output lies that is still to be stored, by another ring or in front of it."""
    image, programs = compiled
    fields = image.prefetch[0].fields
    store = int(np.flatnonzero((fields["beside"] == 1) & (fields["kind"] == STORE))[0])
    one = {name: column[store : store + 1].copy() for name, column in fields.items()}
    one["kind"][:], one["select"][:] = LOAD, HostSelect.X

    def with_load(ring: Ring, at: int) -> tuple[Ring, ...]:
        values = {name: np.insert(column, at, one[name][0]) for name, column in ring.fields.items()}
        return (Ring(ring.base, values),)

    legal = dataclasses.replace(image, prefetch=with_load(image.prefetch[0], store + 1) + image.prefetch[1:])
    check_engines(legal, programs)
    before = dataclasses.replace(image, prefetch=with_load(image.prefetch[0], store) + image.prefetch[1:])
    other = dataclasses.replace(image, demand=with_load(image.demand[0], 0) + image.demand[1:])
    for wrong in (before, other):
        sentence = (
            r"load \d+ of ring [01] of manager 0 may overwrite words of X bank \d "
            r"before store \d+ of ring 1 of manager 0 reads them"
        )
        assert re.fullmatch(sentence, refused(wrong, programs))
