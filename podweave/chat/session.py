"""A text that grows on an accelerator: in RTL, by its exact model, or by the golden model alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from podweave.ir.arrays import read_arrays
from podweave.ir.layers import WorkloadError
from podweave.tb.benches.system_bench import MOST_CHIPS, SystemBench

from ..driver.system import System
from ..language.integer_model import IntegerModel
from ..runs.verdict import Comparison
from .accelerators import Accelerators
from .defaults import CHUNK
from .machine import Machine, Part, Programs, Progress, Step
from .run_shapes import RunShape, decoding, prefilling

WAYS = ("golden", "model", "rtl")
_STATE = "podweave session 1"


@dataclass
class Session:
    """A text on a machine.

    Parameters
    ----------
    machine : Machine
        What runs it.
    chunk : int
        Tokens of a prompt that are run at a time, at the most.
    slot : int
        Which of the texts of the machine it is.

    Members
    -------
    text : Text
        So far, with its caches.
    """

    machine: Machine
    chunk: int = CHUNK
    slot: int = 0

    def __post_init__(self) -> None:
        self.text = self.machine.text(self.slot)

    @property
    def model(self) -> IntegerModel:
        return self.machine.model

    @property
    def capacity(self) -> int:
        """Positions for which there is room."""
        return self.machine.capacity

    @property
    def tokens(self) -> list[int]:
        """All that are in the caches, those of the model's prefix in front."""
        return self.text.tokens

    def feed(self, tokens: Sequence[int]) -> Iterator[Step]:
        """Run tokens behind the text; the last step has the logits of the last of them.

        Raises `WorkloadError` for no tokens, and for more than there is room for, before anything is run.
        """
        self.require_room(tokens)
        yield from self.fill(tokens[:-1])
        yield self.machine.run([self.next(tokens[-1])], True)

    def require_room(self, tokens: Sequence[int]) -> None:
        """Raises `WorkloadError` for no tokens, and for more than there is room for."""
        if not tokens:
            raise WorkloadError("a prompt must have at least one token, got 0")
        if len(self.tokens) + len(tokens) > self.capacity:
            raise WorkloadError(
                f"{len(self.tokens)} tokens and {len(tokens)} more do not fit a context of {self.capacity}: allowed are "
                f"{self.capacity - len(self.tokens)}"
            )

    def fill(self, tokens: Sequence[int]) -> Iterator[Step]:
        """Put tokens behind the text into the caches; there are no logits."""
        begin = len(self.tokens)
        for run in prefilling(begin, len(tokens), self.machine.lanes, self.chunk, self.slot, self.text.shared):
            some = tokens[run.position - begin :][: run.count]
            yield self.machine.run([Part(self.text, run, some)], False)

    def share(self, other: Session, count: int) -> None:
        """Begin with the first ``count`` tokens of the text in slot 0: their keys and values are in its caches alone.

        Raises `WorkloadError` for a text that has begun, and for tokens that are no whole tiles of keys or are not there.
        """
        lanes, text, there = self.machine.lanes, self.text, len(other.tokens)
        if other.slot or not self.slot or other.machine is not self.machine:
            raise WorkloadError(f"texts share tokens with that in slot 0 of their machine, got {self.slot} and {other.slot}")
        if len(text.tokens) > len(self.model.prefix):
            raise WorkloadError(f"a text shares what it begins with, but this one has {len(text.tokens)} tokens")
        if count % lanes or not lanes <= count <= there or count < len(text.tokens):
            raise WorkloadError(f"texts share whole tiles of {lanes} tokens, of {there} that are there, got {count}")
        text.tokens = other.tokens[:count]
        for name, cache in text.caches.items():
            cache[:, :, :count] = other.text.caches[name][:, :, :count]
        text.shared, text.holder = count, other.text

    def next(self, token: int) -> Part:
        """A token behind the text, to be run."""
        return Part(self.text, decoding(len(self.tokens), self.machine.lanes, self.slot, self.text.shared), [token])

    def compare_caches(self) -> Comparison | None:
        """In RTL: keys and values in the memories of the chips, held against those of the golden model, as far as the last program
        sees them."""
        held = self.machine.held(self.text)
        if held is None:
            return None
        comparison, count = Comparison(0, 0), len(self.tokens)
        for name, cache in self.text.caches.items():
            got = held[name]
            seen = min(count, got.shape[2])
            comparison.values(name, cache[:, :, :seen], got[:, :, :seen])
        return comparison

    def save(self, path: Path) -> None:
        """Write text and caches to one file, of the format of NumPy's ``npz``; in RTL, caches are those of the chips' memories.

        Nothing in it depends on how many chips there are.
        """
        count = len(self.tokens)
        held = self.machine.held(self.text) or self.text.caches
        caches = {name: cache[:, :, :count] for name, cache in held.items()}
        about = np.array([_STATE, self.model.digest])
        with path.open("wb") as file:
            np.savez_compressed(file, about=about, tokens=np.array(self.tokens, np.int64), **caches)  # type: ignore[arg-type]

    def restore(self, path: Path) -> None:
        """Go on with what `save` wrote; raises `WorkloadError` if it is no such file, of another model, or too long."""
        try:
            held = read_arrays(path)
            kind, digest = held.pop("about").tolist()
            tokens = held.pop("tokens").tolist()
        except (ValueError, KeyError, OSError) as error:
            raise WorkloadError(f"{path} is no session that podweave chat wrote, or not a whole one: {error}") from error
        if kind != _STATE:
            raise WorkloadError(f"{path}: the format must be {_STATE!r}, got {kind!r}")
        if digest != self.model.digest:
            raise WorkloadError(f"{path} is of another model than {self.model.name}: its hash is {digest}, not {self.model.digest}")
        if len(tokens) > self.capacity:
            raise WorkloadError(f"{path} holds {len(tokens)} tokens, more than a context of {self.capacity}")
        for name, cache in self.text.caches.items():
            if name not in held or held[name].shape != cache[:, :, : len(tokens)].shape or held[name].dtype != np.int8:
                raise WorkloadError(f"{path}: {name} must be int8 {cache[:, :, : len(tokens)].shape}")
            cache[:, :, : len(tokens)] = held[name]
        self.text.tokens, self.text.stale = tokens, True


@contextlib.contextmanager
def open_sessions(
    model: IntegerModel,
    accelerators: Accelerators,
    way: str,
    slots: int = 1,
    *,
    capacity: int,
    chunk: int = CHUNK,
    threads: int = 1,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Iterator[list[Session]]:
    """Sessions of one machine for the body of the ``with``. ``way``: one of `WAYS`; in RTL a simulator runs as long as it.

    ``slots``: how many; one by default. ``threads``: cores to simulate with; ``seed``: of the initial state of the simulator.

    Raises `WorkloadError` for a way or sizes that do not go, and for what so many chips cannot share.
    """
    if way not in WAYS:
        raise WorkloadError(f"a session runs by one of {', '.join(WAYS)}, got {way!r}")
    if capacity > model.context:
        raise WorkloadError(f"{model.name} was made for a context of {model.context}, got {capacity}")
    if capacity <= len(model.prefix):
        raise WorkloadError(f"a context must hold more than the {len(model.prefix)} tokens in front of all texts, got {capacity}")
    config, chips = accelerators.config, accelerators.chips
    lanes = config.array.cols
    if slots < 1:
        raise WorkloadError(f"there must be at least one text, got {slots}")
    if chunk < 1:
        raise WorkloadError(f"a prompt is run at least one token at a time, got {chunk}")
    if config.post is not None and config.has_rows:
        # Heads that share keys are rows of their own.
        chunk = max(1, min(chunk, config.post.row_registers * model.sizes.kv_heads // model.sizes.heads))
    first = len(model.prefix)
    one = RunShape((decoding(first, lanes).text,), True)
    accelerators.divide(one.graph(model), model.constants)
    programs = None if way == "golden" else Programs(model, accelerators, capacity, slots, progress)
    machine = Machine(model, lanes, capacity, programs, progress=progress)
    sessions = [Session(machine, chunk, slot) for slot in range(slots)]
    if way != "rtl":
        yield sessions
        return
    assert programs
    # What the chips cannot run is said before anything is built.
    if chips > MOST_CHIPS:
        raise WorkloadError(f"in RTL there are at most {MOST_CHIPS} chips, got {chips}")
    programs.compiled(one)
    if slots > 1:
        # In another memory: where caches lie is up to what texts share.
        every = RunShape(tuple(decoding(first, lanes, slot).text for slot in range(slots)), True)
        Programs(model, accelerators, capacity, slots, progress).compiled(every)
    progress("emitting Verilog")
    bench = SystemBench.of(config, chips, threads=threads, progress=progress)
    with bench.system(
        timings=[accelerators.timing] * chips,
        links=[accelerators.link.of_link(rank) for rank in range(chips)],
        seed=seed,
        channel_bytes=programs.channel_bytes,
    ) as bus:
        machine.system = System(bus, config)
        yield sessions
