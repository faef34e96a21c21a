"""podweave.chat in RTL, with golden models in place of the chips: what is written into memories, when, and what is compared.

Tests of the campaign do the same in RTL.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.chat import session as sessions_of
from podweave.chat.accelerators import Accelerators
from podweave.chat.batch import TextToken, advance, generate_together
from podweave.chat.generate import Token, generate
from podweave.chat.machine import Machine, Step
from podweave.chat.session import open_sessions
from podweave.golden.graph import evaluate
from podweave.ir.layers import WorkloadError
from podweave.language.integer_model import IntegerModel
from podweave.language.quantise import quantise
from tests.podweave.chat.test_ring import ALONE, RING
from tests.podweave.language.tiny import VOCABULARY, tiny_checkpoint, tiny_texts

PREFIX = [9, 8, 7]


@pytest.fixture(scope="module")
def model() -> IntegerModel:
    return quantise(tiny_checkpoint(), tiny_texts(8, 40), (1,))


class Chips:
    """In place of `System`: the memories of the chips, and runs of the whole graph on what they hold together."""

    def __init__(self, machine: Machine):
        assert machine.programs
        self.machine, self.programs = machine, machine.programs
        self.memories: list[dict[str, NDArray]] = [{} for _ in range(machine.programs.accelerators.chips)]
        self.devices = [SimpleNamespace(image=None) for _ in self.memories]
        self.outputs: list[dict[str, NDArray]] = []
        self.predicted: Any = None
        self.loaded: list[Any] = []
        self.written: list[str] = []
        self.counter: Callable[[str, int], int] = lambda name, value: value

    def load(self, images: Sequence[Any]) -> None:
        assert not any(images[0] is each for each in self.loaded)
        self.loaded.append(images[0])
        self.select(images)

    def select(self, images: Sequence[Any]) -> None:
        assert any(images[0] is each for each in self.loaded)
        self.devices[0].image = images[0]

    @property
    def network(self) -> Any:
        return next(each for each in self.programs.networks if each.images[0] is self.devices[0].image)

    def write_input(self, chip: int, name: str, tensor: NDArray) -> None:
        self.written.append(name)
        if name not in self.network.partition.whole.inputs or not name.startswith("layer"):
            self.memories[chip][name] = tensor.copy()
            return
        # A cache has room for all positions, whatever a program sees of it; what was not written is anything.
        room = -(-self.machine.capacity // self.machine.lanes) * self.machine.lanes
        shape = (*tensor.shape[:2], room, tensor.shape[3])
        self.memories[chip].setdefault(name, np.full(shape, 77, np.int8))[:, :, : tensor.shape[2]] = tensor

    def read_input(self, chip: int, name: str) -> NDArray:
        return self.memories[chip][name][:, :, : self.network.partition.whole.inputs[name][2]].copy()

    def read_output(self, chip: int, name: str) -> NDArray:
        return self.outputs[chip][name]

    def run(self, how: Any, *, max_cycles: int, progress: Callable[[int], None]) -> None:
        partition = self.network.partition
        names = partition.whole.inputs
        held = [{name: self.read_input(chip, name) for name in mine if name in names} for chip, mine in enumerate(self.memories)]
        inputs = partition.join(held)
        tensors = evaluate(partition.whole, self.machine.model.constants, inputs)
        after = {name.replace("_now", ""): tensor for name, tensor in tensors.items() if "_now" in name}
        for memory, mine in zip(self.memories, partition.cut(after), strict=True):
            for name, tensor in mine.items():
                memory[name][:, :, : tensor.shape[2]] = tensor
        self.outputs = list(partition.cut({name: tensors[name] for name in partition.whole.outputs}))
        (shape,) = (shape for shape, network in self.programs._compiled.items() if network is self.network)
        self.predicted = self.programs._predicted[shape, self.network.bases(inputs)]
        assert max_cycles > self.predicted.cycles
        progress(self.predicted.cycles // 2)

    def counters(self) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(
                device={name: self.counter(name, value) for name, value in chip.counters.items()}, nodes=dict(chip.nodes)
            )
            for chip in self.predicted.chips
        ]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of the progress; sessions "in RTL" have `Chips`."""
    found: list[str] = []

    @contextlib.contextmanager
    def system(**surroundings: Any) -> Iterator[str]:
        found.append(f"{len(surroundings['timings'])} memories, {len(surroundings['links'])} links")
        yield "bus"
        found.append("ended")

    monkeypatch.setattr(sessions_of.SystemBench, "of", lambda *given, **options: SimpleNamespace(system=system))
    monkeypatch.setattr(sessions_of, "System", lambda bus, config: None)
    return found


@contextlib.contextmanager
def chatting(model: IntegerModel, accelerators: Accelerators, slots: int = 1, **options: Any) -> Iterator[tuple[Any, Chips]]:
    with open_sessions(model, accelerators, "rtl", slots, **{"capacity": 22, "chunk": 4, **options}) as sessions:
        chips = Chips(sessions[0].machine)
        sessions[0].machine.system = chips  # type: ignore[assignment]
        yield sessions, chips


def test_a_text_is_compared_run_by_run(model: IntegerModel, told: list[str], tmp_path: Path) -> None:
    """Caches are written once, and again when a text was restored; each run has the logits of one over all of the text."""
    (text,) = tiny_texts(1, 18)
    whole = model.evaluate(text)["head"][0, 0]
    with chatting(model, RING, progress=told.append) as ((session,), chips):
        assert session.compare_caches() is None
        for begin, end in ((1, 6), (6, 7)):
            *_, step = session.feed(text[begin:end])
            assert step.comparison.is_exact, step.row()
            assert step.comparison.compared == VOCABULARY
            assert (step.position, step.cycles) == (end - 1, step.predicted_cycles)
            np.testing.assert_array_equal(step.logits, whole[end - 2])
        assert chips.written.count("layer0.keys") == 2
        found = session.compare_caches()
        assert (found.compared, found.mismatches) == (2 * 2 * 7 * 32, 0)
        session.save(tmp_path / "saved")
        list(session.feed([5]))
        session.restore(tmp_path / "saved")
        # What the chips hold is of another text now.
        assert session.compare_caches() is None
        (step,) = session.feed(text[7:8])
        assert step.comparison.is_exact
        assert chips.written.count("layer0.keys") == 4
        np.testing.assert_array_equal(step.logits, whole[6])
    assert "2 memories, 2 links" in told
    assert told[-1] == "ended"
    assert any(text.startswith("simulating tiny") and text.endswith(": 50%") for text in told)


def test_what_is_wrong_is_seen(model: IntegerModel, told: list[str]) -> None:
    """A bit of a key, on the second chip; a counter; the cycles."""
    with chatting(model, RING) as ((session,), chips):
        for name in ("CYCLES", "LINK_SENT", "nothing"):
            chips.counter = lambda each, value, name=name: value + (each == name)  # type: ignore[misc]
            (step,) = session.feed([5])
            assert step.comparison.is_exact == (name == "nothing")
            assert step.comparison.mismatches == 0
            assert step.cycles - step.predicted_cycles == (name == "CYCLES")
            assert (f"chip 1: {name}" in step.comparison.counters_differing) == (name != "nothing")
        chips.memories[1]["layer1.keys"][0, 0, 1, 0] ^= 64
        found = session.compare_caches()
        assert found.mismatches == 1
        assert found.first_mismatch.startswith("layer1.keys, image 0, row 0, column 1, channel 16:")
        (step,) = session.feed([5])
        assert step.comparison.mismatches > 0
        assert not step.comparison.counters_differing


def test_several_texts_that_begin_alike(model: IntegerModel, told: list[str]) -> None:
    """Each answers as alone; what they begin with is written for the first alone, and compared for all."""
    prompts = [[*PREFIX, 11, 12], [*PREFIX, 13], [*PREFIX, 14]]
    alone = []
    for prompt in prompts:
        with open_sessions(model, ALONE, "golden", capacity=22) as (session,):
            alone.append([each.token for each in generate(session, prompt, 2) if isinstance(each, Token)])
    with chatting(model, ALONE, 3) as (sessions, chips):
        found = list(generate_together(sessions, prompts, 2))
        assert all(each.comparison.is_exact for each in found if isinstance(each, Step))  # type: ignore[union-attr]
        assert [[each.token.token for each in found if isinstance(each, TextToken) and each.text == n] for n in range(3)] == alone
        # The first text is not run, and others see what it has.
        step = advance(sessions, {1: 5, 2: 6})
        assert step.comparison
        assert step.comparison.is_exact
        for session in sessions:
            caches = session.compare_caches()
            assert (caches.compared, caches.mismatches) == (2 * 2 * len(session.tokens) * 32, 0)
        chips.memories[0]["layer1.values"][0, 0, 2] ^= 64
        assert all(session.compare_caches().mismatches for session in sessions)
        # Whose beginning is not there, nobody sees.
        sessions[0].text.stale = True
        assert sessions[1].compare_caches() is None


def test_texts_of_which_one_has_no_room_left(model: IntegerModel) -> None:
    """The others go on, until none has."""
    with open_sessions(model, ALONE, "golden", 2, capacity=6) as sessions:
        found = list(generate_together(sessions, [[3, 4, 5, 6], [7, 8]], 60))
        assert [len(session.tokens) for session in sessions] == [6, 6]
        counts = [sum(isinstance(each, TextToken) and each.text == number for each in found) for number in range(2)]
        assert counts == [2, 4]


class Ending(SimpleNamespace):
    """A tokenizer of which any token ends a text."""

    ends = tuple(range(VOCABULARY))


def test_a_text_ends_with_its_token(model: IntegerModel) -> None:
    ended = dataclasses.replace(model, tokenizer=Ending())  # type: ignore[arg-type]
    with open_sessions(ended, ALONE, "golden", 2, capacity=9) as sessions:
        assert sum(isinstance(each, Token) for each in generate(sessions[0], [3], 5)) == 1
    with open_sessions(ended, ALONE, "golden", 2, capacity=9) as sessions:
        assert sum(isinstance(each, TextToken) for each in generate_together(sessions, [[3], [4]], 5)) == 2


@pytest.mark.parametrize(
    ("way", "accelerators", "options", "sentence"),
    [
        ("golden", ALONE, {"capacity": 1}, "a context must hold more than the 1 tokens in front of all texts, got 1"),
        ("golden", ALONE, {"slots": 0}, "there must be at least one text, got 0"),
        ("golden", ALONE, {"chunk": 0}, "a prompt is run at least one token at a time, got 0"),
        ("rtl", RING, {}, "in RTL there are at most 1 chips, got 2"),
    ],
)
def test_sessions_that_do_not_go(
    model: IntegerModel, way: str, accelerators: Accelerators, options: Any, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_of, "MOST_CHIPS", 1)
    with (
        pytest.raises(WorkloadError, match=f"^{sentence}$"),
        open_sessions(model, accelerators, way, **{"capacity": 8, **options}),
    ):
        pass


def test_texts_that_cannot_share(model: IntegerModel) -> None:
    with open_sessions(model, ALONE, "golden", 3, capacity=16) as (first, second, third):
        list(first.feed([3, 4, 5, 6, 7]))
        list(third.feed([3]))
        for session, other, count, sentence in (
            (first, second, 4, "texts share tokens with that in slot 0 of their machine, got 0 and 1"),
            (second, third, 4, "texts share tokens with that in slot 0 of their machine, got 1 and 2"),
            (third, first, 4, "a text shares what it begins with, but this one has 2 tokens"),
            (second, first, 3, "texts share whole tiles of 4 tokens, of 6 that are there, got 3"),
            (second, first, 8, "texts share whole tiles of 4 tokens, of 6 that are there, got 8"),
        ):
            with pytest.raises(WorkloadError, match=f"^{sentence}$"):
                session.share(other, count)
        with pytest.raises(WorkloadError, match=r"^a run needs at least one text, got 0$"):
            advance([first], {})
