"""Collectives against the rules of collective engines, each by itself and those of all chips beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from podweave.spec.layout import Layout
from podweave.spec.links import CollectiveKind, receive_job_layout, send_job_layout
from podweave.spec.load_port import HostSelect

from ...chip.bank_words import zero_word
from ...chip.check.jobs import Bools, Ints, expand
from ...collective.program import CollectiveProgram
from ...jobs import JobFieldError, Jobs, ProgramError, pack_jobs
from ..program import ChipEpoch
from .state import State


@dataclass(frozen=True)
class _Words:
    """Words of the jobs of a store, in order: of which job, which of its words, and where."""

    job: Ints
    word: Ints
    unit: Ints
    address: Ints

    @classmethod
    def of(cls, jobs: Jobs) -> _Words:
        # Nothing is sent, or received: the walk of the job does not matter.
        counts = jobs["n0"] * jobs["n1"] * jobs["n2"] if jobs["words"].any() else np.zeros_like(jobs["n0"])
        job, word = expand(np.arange(len(counts)), counts)
        of = {name: values[job] for name, values in jobs.items()}
        # How often each loop has advanced.
        second, third = word // of["n0"], word // (of["n0"] * of["n1"])
        unit = of["unit"] + of["unit1"] * (second - third) + of["unit2"] * third
        address = of["address"] + of["step0"] * (word - second) + of["step1"] * (second - third) + of["step2"] * third
        return cls(job, word, unit, address)

    def __len__(self) -> int:
        return len(self.job)


def check_collective(program: CollectiveProgram, state: State) -> None:
    """Raises `ProgramError` for jobs that a collective engine refuses, words that are not those of the sums that are added, and
    words that follow others than those that they are."""
    config = program.config
    _check_jobs(program, "send", send_job_layout(config), program.sends)
    _check_jobs(program, "receive", receive_job_layout(config), program.receives)
    _check_words(program, "send", _Words.of(program.sends), state)
    _check_words(program, "receive", _Words.of(program.receives), state)
    _check_followed(program)


def _check_words(program: CollectiveProgram, what: str, words: _Words, state: State) -> None:
    config, select = program.config, HostSelect.P if program.kind is CollectiveKind.P else HostSelect.X
    depth = zero_word(config) if select is HostSelect.P else config.memory.x_words

    def where(i: int) -> str:
        return f"{select.name} bank {words.unit[i]} address {words.address[i]}"

    outside = (words.unit < 0) | (words.unit >= config.pods) | (words.address < 0) | (words.address >= depth)
    _refuse(outside, words, what, lambda i: f"{where(i)} is not there")
    owner = state.owner[select].reshape(config.pods, -1)[words.unit, words.address]
    strange = owner != state.owners.number(program.operation)
    _refuse(strange, words, what, lambda i: f"{where(i)} has no sums of {program.operation}")


def _check_jobs(program: CollectiveProgram, what: str, layout: Layout, jobs: Jobs) -> None:
    links, count = program.config.links, len(jobs["n0"])
    assert links is not None
    if count > links.jobs:
        raise ProgramError(f"there are {count} {what} jobs, more than jobs ({links.jobs})")
    try:
        pack_jobs(layout, jobs)
    except JobFieldError as error:
        raise ProgramError(str(error)) from None
    trips = np.stack([jobs[name] for name in ("n0", "n1", "n2")])
    if not trips.all():
        job = int(np.argmin(trips.all(axis=0)))
        raise ProgramError(f"{what} job {job}: a loop has no trips")
    total = len(_Words.of(jobs))
    for name, value in (("id", program.id), ("kind", int(program.kind)), ("words", total)):
        wrong = jobs[name] != value
        if wrong.any():
            job = int(np.argmax(wrong))
            raise ProgramError(f"{what} job {job}: {name} is {jobs[name][job]}, must be {value}")
    if jobs["last"].tolist() != [0] * (count - 1) + [1]:
        raise ProgramError(f"the last {what} job, and no other, is marked as that")
    if "add" in jobs and program.kind is CollectiveKind.X and jobs["add"].any():
        raise ProgramError(f"receive job {int(np.argmax(jobs['add']))}: X words are stored, not added")


def _check_followed(program: CollectiveProgram) -> None:
    """What is sent after words have been received is the last of them."""
    sent, received = _Words.of(program.sends), _Words.of(program.receives)
    after = _after(program, sent)
    missing = after >= len(received)
    _refuse(missing, sent, "send", lambda i: f"word {i} of the collective follows word {after[i]}, and {len(received)} come")
    follows = np.flatnonzero(after >= 0)
    which = after[follows]
    other = np.zeros(len(sent), bool)
    other[follows] = (sent.unit[follows] != received.unit[which]) | (sent.address[follows] != received.address[which])
    _refuse(other, sent, "send", lambda i: f"word {i} of the collective follows word {after[i]}, which goes to another place")


def _after(program: CollectiveProgram, sent: _Words) -> Ints:
    """By word that is sent, which word must have come; -1 for none."""
    jobs = program.sends
    return np.where(jobs["follows"][sent.job] == 1, jobs["needs"][sent.job] + sent.word, -1)


def check_ring(chips: Sequence[Sequence[ChipEpoch]]) -> None:
    """Raises `ProgramError` unless chips, in the order of their ring, have the same collectives in the same order, in the same of
    their epochs, each receives what the one before sends, word for word in the same place among the sums, none waits for itself,
    and all end with the sums of all.

    Collectives of each chip obey `check_collective`.
    """
    collectives = [[epoch for epoch in epochs if isinstance(epoch, CollectiveProgram)] for epochs in chips]
    counts = [len(each) for each in collectives]
    if len(set(counts)) > 1:
        raise ProgramError(f"chips have {', '.join(map(str, counts))} collectives")
    # The head of a message has the number of the sender's epoch, by which the receiver knows it (`rtl.link.collective_engine`).
    places = [[number for number, epoch in enumerate(epochs) if isinstance(epoch, CollectiveProgram)] for epochs in chips]
    for number, programs in enumerate(zip(*collectives, strict=True)):
        numbers = [own[number] for own in places]
        if len(set(numbers)) > 1:
            raise ProgramError(f"collective {number} is in different epochs of chips: {', '.join(map(str, numbers))}")
        try:
            _check_sums(programs)
        except ProgramError as error:
            raise ProgramError(f"collective {number}: {error}") from None


def _check_sums(programs: Sequence[CollectiveProgram]) -> None:
    heads = {(program.id, program.kind, program.operation) for program in programs}
    if len(heads) > 1:
        raise ProgramError(f"chips are in different ones: {', '.join(sorted(operation for _, _, operation in heads))}")
    chips = len(programs)
    sent, received = ([_Words.of(jobs) for jobs in of] for of in ([p.sends for p in programs], [p.receives for p in programs]))
    for rank in range(chips):
        one, two = sent[rank - 1], received[rank]
        if len(one) != len(two):
            raise ProgramError(f"chip {rank} expects {len(two)} words, and the one before sends {len(one)}")
    first = [int(words.address.min(initial=1 << 30)) for words in received]
    # By chip and word, of which chips its sum has parts; words count from the first that comes, as all lie alike.
    span = max(int(words.address.max(initial=0)) - base for words, base in zip(received, first, strict=True)) + 1
    parts = np.zeros((chips, programs[0].config.pods * span), np.int64)
    at = [[words.unit * span + words.address - base for words, base in zip(of, first, strict=True)] for of in (sent, received)]
    for rank in range(chips):
        if not np.array_equal(at[0][rank - 1], at[1][rank]):
            word = int(np.argmax(at[0][rank - 1] != at[1][rank]))
            raise ProgramError(f"chip {rank}: word {word} goes to another place than that from which it comes")
        parts[rank] = 1 << rank
    _add_parts(programs, sent, received, at[0], parts)
    for rank, where in enumerate(at[1]):
        missing = parts[rank][where] != (1 << chips) - 1
        if missing.any():
            raise ProgramError(f"chip {rank}: what word {int(np.argmax(missing))} ends as is not the sum of all chips")


def _add_parts(
    programs: Sequence[CollectiveProgram], sent: list[_Words], received: list[_Words], at: list[Ints], parts: Ints
) -> None:
    """Let chips send what they can, again and again; ``at``: places of the words that each chip sends."""
    chips = len(programs)
    after = [_after(program, words) for program, words in zip(programs, sent, strict=True)]
    done = [0] * chips
    """By chip, how many words it has sent; the next one has received as many."""
    while done != [len(words) for words in sent]:
        ends = [done[rank] + _free(after[rank][done[rank] :] < done[rank - 1]) for rank in range(chips)]
        if ends == done:
            raise ProgramError(f"chips wait for each other, and have sent {', '.join(map(str, done))} words")
        moved = [parts[rank][at[rank][done[rank] : ends[rank]]] for rank in range(chips)]
        for rank, program in enumerate(programs):
            words = slice(done[rank - 1], ends[rank - 1])
            where, come = at[rank - 1][words], moved[rank - 1]
            adds = program.receives["add"][received[rank].job[words]] == 1
            twice = adds & (parts[rank][where] & come != 0)
            if twice.any():
                raise ProgramError(f"chip {rank}: word {words.start + int(np.argmax(twice))} is added twice")
            parts[rank][where] = np.where(adds, parts[rank][where], 0) | come
        done = ends


def _free(may: Bools) -> int:
    """How many words may go before the first that may not."""
    return len(may) if may.all() else int(np.argmin(may))


def _refuse(wrong: Bools, words: _Words, what: str, why: Callable[[int], str]) -> None:
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ProgramError(f"{what} job {words.job[i]}: {why(i)}")
