"""Holds a chip program against the rules of the hardware: whatever would set an error bit, or read a word that is not there.

Jobs are intervals of cycles. What can be told from intervals is; words are only looked at one by one where a rule is about
addresses, or where intervals on a wire overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.spec.config_parts import bits
from podweave.spec.jobs import Accumulate, Emit

from ...jobs import Jobs, Place
from ...pod.executor import ProgramError
from ..bank_words import zero_word
from ..epoch_program import ChipProgram, ConstantSet, WeightTile, job_fields

Ints = NDArray[np.int64]

_NEVER = np.iinfo(np.int64).max
_BEFORE = -(1 << 40)
# In the place of the node that a set of parameters is of.
_CONSTANT = -2
# Words that are looked at together: a few arrays of this size are in memory at a time.
_CHUNK = 1 << 21


def check_chip(program: ChipProgram) -> None:
    """Raises `ProgramError` for the first rule that a program breaks; the message names the job, the cycle and the place.

    Beyond what sets an error bit, words must be there when they are read: each address of a P bank holds one result per epoch,
    which is stored once, complete before it is read, and not written after; each slot of an X word is written once, and not on
    top of what the host put there; a pod adds only to accumulators of the same node that it has initialised and
    whose sum it has not yet emitted. Accumulators of earlier epochs may be read, and must not be written; the zero word only by
    jobs with a constant set, which in turn read nothing else.
    """
    _Check(program).run()


@dataclass(frozen=True)
class _Walk:
    """The addresses of jobs, loop 0 innermost: one value per job in each array."""

    base: Ints
    counts: tuple[Ints, ...]
    strides: tuple[Ints, ...]

    @classmethod
    def of(cls, jobs: Jobs, memory: str, loops: Sequence[int]) -> _Walk:
        counts = tuple(jobs[f"n{i}"] for i in loops)
        strides: list[Ints] = []
        back = np.zeros_like(jobs[f"{memory}_base"])
        for i, count in zip(loops, counts, strict=True):
            # A loop of one trip never advances.
            stride = np.where(count > 1, jobs[f"{memory}_step{i}"] + back, 0)
            strides.append(stride)
            back = back + (count - 1) * stride
        return cls(jobs[f"{memory}_base"], counts, tuple(strides))

    def extremes(self) -> tuple[Ints, Ints]:
        low, high = self.base, self.base
        for count, stride in zip(self.counts, self.strides, strict=True):
            reach = (count - 1) * stride
            low, high = low + np.minimum(reach, 0), high + np.maximum(reach, 0)
        return low, high

    def at(self, job: Ints, word: Ints) -> Ints:
        """Addresses of the ``word``-th words of jobs."""
        address, left = self.base[job], word
        for count, stride in zip(self.counts, self.strides, strict=True):
            address = address + left % count[job] * stride[job]
            left = left // count[job]
        return address


@dataclass(frozen=True)
class _Traffic:
    """Words that jobs put into one network, one every ``period`` cycles from ``start`` on.

    ``job``: their numbers among all of a kind. ``walk``: what is read, for a read network, on which equal words may meet.
    """

    name: str
    kind: str
    job: Ints
    source: Ints
    bank: Ints
    plane: Ints
    start: Ints
    words: Ints
    period: Ints
    walk: _Walk | None = None


class _Check:
    def __init__(self, program: ChipProgram):
        self.program, self.config = program, program.config
        self.loads, self.streams, self.posts = program.loads, program.streams, program.posts
        self.streamed, self.read = program.words_streamed, program.words_read
        self.window = self.posts["n0"] * self.posts["n1"]

    def run(self) -> None:
        self._fields()
        self._legal()
        self._addresses()
        self._engines()
        self._networks()
        self._weights()
        self._partial_sums()
        self._activations()
        self._accumulators()

    def _job(self, kind: str, index: int) -> str:
        """A job as messages name it."""
        jobs, unit = {"load": (self.loads, "pod"), "stream": (self.streams, "pod"), "post": (self.posts, "bank")}[kind]
        return f"{kind} job {index} ({unit} {jobs[unit][index]}, start {jobs['start'][index]})"

    # Fields, addresses, times of single jobs.

    def _fields(self) -> None:
        for name, fields in job_fields(self.config).items():
            jobs, kind = getattr(self.program, name), name[:-1]
            for field in fields:
                low = -(1 << (field.width - 1)) if field.signed else 0
                high = (1 << (field.width - field.signed)) - 1
                values = jobs[field.name]
                self._refuse(
                    (values < low) | (values > high),
                    kind,
                    lambda i, f=field, v=values, lo=low, hi=high: (  # type: ignore[misc]
                        f"{f.name} is {v[i]}, but its field holds {lo} to {hi}"
                    ),
                )

    def _refuse(self, wrong: NDArray[np.bool_], kind: str, what: Callable[[int], str]) -> None:
        """``what(job)``: the rest of the message for the first job that is wrong."""
        if wrong.any():
            index = int(np.argmax(wrong))
            raise ProgramError(f"{self._job(kind, index)}: {what(index)}")

    def _inside(self, kind: str, name: str, low: int, high: int) -> None:
        values = getattr(self.program, f"{kind}s")[name]
        self._refuse((values < low) | (values > high), kind, lambda i: f"{name} is {values[i]}, must be {low} to {high}")

    def _legal(self) -> None:
        config, memory, post = self.config, self.config.memory, self.config.post
        assert post is not None
        assert config.program is not None
        pods, lanes = config.pods, config.post_lanes
        for kind, unit in (("load", "pod"), ("stream", "pod"), ("post", "bank")):
            self._inside(kind, unit, 0, pods - 1)
        for kind, name in (("load", "w"), ("stream", "x"), ("post", "x")):
            self._inside(kind, f"{name}_bank", 0, pods - 1)
            self._inside(kind, f"{name}_plane", 0, memory.planes - 1)
        self._inside("load", "rows", 1, config.array.rows)
        for loop in range(3):
            self._inside("stream", f"n{loop}", 1, _NEVER)
        self._inside("stream", "accumulate", 0, int(Accumulate.ADD if config.pod.accumulator_rows else Accumulate.BYPASS))
        self._inside("stream", "emit", 0, int(Emit.ACCUMULATE))
        emits = self.streams["emit"] != Emit.NONE
        for name, count in (("p_bank", pods), ("p_plane", memory.planes)):
            wrong = emits & (self.streams[name] >= count)
            self._refuse(wrong, "stream", lambda i, n=name, c=count: f"{n} is {self.streams[n][i]}, must be 0 to {c - 1}")  # type: ignore[misc]
        for loop in range(4):
            self._inside("post", f"n{loop}", 1, _NEVER)
        self._inside("post", "parameters", 0, post.parameter_sets - 1)
        self._inside("post", "table", 0, post.tables - 1)
        self._inside("post", "slice", 0, config.array.cols // lanes - 1)
        self._inside("post", "slot", 0, config.array.rows // lanes - 1)
        stores = (("load", "pod", "load_jobs"), ("stream", "pod", "stream_jobs"), ("post", "bank", "post_jobs"))
        for kind, unit, name in stores:
            jobs, limit = getattr(self.program, f"{kind}s"), getattr(config.program, name)
            held = np.bincount(jobs[unit], minlength=pods)
            if held.max() > limit:
                raise ProgramError(f"{unit} {held.argmax()} has {held.max()} {kind} jobs, {held.max() - limit} more than {name}")
        self._parameter_sets()

    def _parameter_sets(self) -> None:
        post = self.config.post
        assert post is not None
        held = np.full(self.config.pods * post.parameter_sets, -1, np.int64)
        for item in self.program.parameters:
            if not (0 <= item.bank < self.config.pods and 0 <= item.index < post.parameter_sets):
                raise ProgramError(f"there is no parameter set {item.index} of bank {item.bank}")
            at = item.bank * post.parameter_sets + item.index
            if held[at] != -1:
                raise ProgramError(f"parameter set {item.index} of bank {item.bank} is loaded twice")
            held[at] = _CONSTANT if isinstance(item, ConstantSet) else item.node
        node = held[self.posts["bank"] * post.parameter_sets + self.posts["parameters"]]
        self.pads = node == _CONSTANT
        wrong = (node != self.program.node_of_post) & ~self.pads
        self._refuse(wrong, "post", lambda i: f"parameter set {self.posts['parameters'][i]} is not one of its node")

    def _addresses(self) -> None:
        memory, streams = self.config.memory, self.streams
        loads = self.loads
        self.w_walk = _Walk(loads["w_base"], (loads["rows"],), (loads["w_step"],))
        self.x_walk, self.p_walk = _Walk.of(streams, "x", range(3)), _Walk.of(streams, "p", range(3))
        self.read_walk, self.sent_walk = _Walk.of(self.posts, "p", range(4)), _Walk.of(self.posts, "x", (2, 3))
        emits = streams["emit"] != Emit.NONE
        walks = (
            ("load", "W address", self.w_walk, memory.w_words, loads["rows"] > 0),
            ("stream", "X address", self.x_walk, memory.x_words, emits | True),
            ("stream", "P address", self.p_walk, zero_word(self.config), emits),
            ("post", "P address", self.read_walk, zero_word(self.config), ~self.pads),
            ("post", "X address", self.sent_walk, memory.x_words, self.read > 0),
        )
        for kind, what, walk, words, counts in walks:
            low, high = walk.extremes()
            wrong = counts & ((low < 0) | (high >= words))
            self._refuse(
                wrong,
                kind,
                lambda i, w=what, lo=low, hi=high, n=words: (  # type: ignore[misc]
                    f"{w} {lo[i] if lo[i] < 0 else hi[i]} is outside of 0 to {n - 1}"
                ),
            )
        low, high = self.read_walk.extremes()
        zero = zero_word(self.config)
        wrong = self.pads & ((low != zero) | (high != zero))
        self._refuse(wrong, "post", lambda i: f"has a constant set, but reads P address {low[i]}, not the zero word ({zero})")
        rows = self.config.pod.accumulator_rows
        end = streams["accumulator_base"] + self.streamed
        wrong = (streams["accumulate"] != Accumulate.BYPASS) & (end > rows)
        self._refuse(wrong, "stream", lambda i: f"accumulator row {end[i] - 1} is outside of 0 to {rows - 1}")

    def _engines(self) -> None:
        config, final = self.config, -1
        engines = (
            ("load", "pod", self.loads["rows"], 0),
            ("stream", "pod", self.streamed, config.write_latency),
            ("post", "bank", self.read, config.post_latency),
        )
        for kind, unit, length, latency in engines:
            jobs = getattr(self.program, f"{kind}s")
            units, start, end = jobs[unit], jobs["start"], jobs["start"] + length
            same = units[1:] == units[:-1]
            wrong = (units[1:] < units[:-1]) | (same & (start[1:] < end[:-1]))
            self._refuse(
                np.concatenate([[False], wrong]),
                kind,
                lambda i, k=kind, e=end: f"starts before {self._job(k, i - 1)} has ended, in cycle {e[i - 1] - 1}",  # type: ignore[misc]
            )
            final = max(final, int(end.max(initial=0)) - 1 + latency)
        limit = 2**config.pod.time_width - 1
        if final + config.epoch_overhead > limit:
            raise ProgramError(f"the epoch lasts {final + config.epoch_overhead} cycles, more than time_width allows ({limit})")

    # Weights.

    def _weights(self) -> None:
        loads, streams = self.loads, self.streams
        swaps = np.flatnonzero(streams["swap"])
        pods = self.config.pods
        need, have = np.bincount(streams["pod"][swaps], minlength=pods), np.bincount(loads["pod"], minlength=pods)
        if (need != have).any():
            pod = int(np.argmax(need != have))
            raise ProgramError(f"pod {pod} has {have[pod]} weight loads for {need[pod]} swaps")
        first = np.concatenate([[True], streams["pod"][1:] != streams["pod"][:-1]])[: len(streams["pod"])]
        self._refuse(first & (streams["swap"] == 0), "stream", lambda _: "is the first of its pod, but swaps no weights in")
        swapped, complete = streams["start"][swaps], loads["start"] + loads["rows"]
        late = complete > swapped
        self._refuse(
            late,
            "load",
            lambda i: f"weights are complete in cycle {complete[i]}, but {self._job('stream', int(swaps[i]))} swaps them in",
        )
        same = loads["pod"][1:] == loads["pod"][:-1]
        early = np.concatenate([[False], same & (loads["start"][1:] < swapped[:-1])])
        self._refuse(early, "load", lambda i: f"overwrites weights before {self._job('stream', int(swaps[i - 1]))} swaps them in")
        tile = self._tiles()
        # Which tile each stream multiplies by: that of the last swap of its pod.
        self.tile_of_stream = tile[np.cumsum(streams["swap"]) - 1]
        node = np.array([item.node for item in self.program.weights], np.int64)[self.tile_of_stream]
        self._refuse(
            node != self.program.node_of_stream,
            "stream",
            lambda i: f"multiplies by weights of {self.program.node(int(node[i])).name}",
        )

    def _tiles(self) -> Ints:
        """The weight tile that each load fetches."""
        program, memory = self.program, self.config.memory
        owner = np.full(memory.banks * memory.w_words, -1, np.int64)
        places = [item.place for item in program.weights]
        words = np.array([_tile_words(program, item) for item in program.weights], np.int64)
        self._host_words(owner, places, words, memory.w_words, "W")
        job, word = _expand(np.arange(len(self.loads["start"])), self.loads["rows"])
        address = self.w_walk.at(job, word)
        tile = owner[self.loads["w_bank"][job] * memory.w_words + address]
        found = tile[word == 0]
        wrong = (tile < 0) | (tile != found[job])
        if wrong.any():
            at = int(np.argmax(wrong))
            index = int(job[at])
            where = f"row {word[at]}, W bank {self.loads['w_bank'][index]} address {address[at]}"
            raise ProgramError(f"{self._job('load', index)}: {where}, is not of one weight tile that the host loads")
        return found

    def _host_words(self, owner: Ints, places: Sequence[Place], words: Ints, depth: int, kind: str) -> None:
        """Write the number of each place into its words of ``owner``, which must not have been taken."""
        banks, bases = np.array([p.bank for p in places], np.int64), np.array([p.base for p in places], np.int64)
        outside = (bases < 0) | (bases + words > depth)
        if outside.any():
            at = int(np.argmax(outside))
            raise ProgramError(f"{kind} bank {banks[at]}: words {bases[at]} to {bases[at] + words[at] - 1} of the host are outside")
        item, word = _expand(np.arange(len(places)), words)
        address = banks[item] * depth + bases[item] + word
        twice = (owner[address] >= 0) | (np.bincount(address, minlength=len(owner))[address] > 1)
        if twice.any():
            at = int(address[np.argmax(twice)])
            raise ProgramError(f"{kind} bank {at // depth} address {at % depth} is loaded twice by the host")
        owner[address] = item

    # Networks.

    def _networks(self) -> None:
        loads, streams, posts, config = self.loads, self.streams, self.posts, self.config
        emits = np.flatnonzero(streams["emit"] != Emit.NONE)
        one_load, one_stream = np.ones_like(loads["start"]), np.ones_like(streams["start"])
        everything = [np.arange(len(jobs["start"])) for jobs in (loads, streams, posts)]
        self._network(
            _Traffic(
                "X",
                "stream",
                everything[1],
                streams["pod"],
                streams["x_bank"],
                streams["x_plane"],
                streams["start"],
                self.streamed,
                one_stream,
                self.x_walk,
            )
        )
        self._network(
            _Traffic(
                "W",
                "load",
                everything[0],
                loads["pod"],
                loads["w_bank"],
                loads["w_plane"],
                loads["start"],
                loads["rows"],
                one_load,
                self.w_walk,
            )
        )
        self._network(
            _Traffic(
                "P",
                "stream",
                emits,
                streams["pod"][emits],
                streams["p_bank"][emits],
                streams["p_plane"][emits],
                streams["start"][emits] + config.write_latency,
                self.streamed[emits],
                one_stream[emits],
            )
        )
        self._network(
            _Traffic(
                "Y",
                "post",
                everything[2],
                posts["bank"],
                posts["x_bank"],
                posts["x_plane"],
                posts["start"] + self.window - 1 + config.post_latency,
                posts["n2"] * posts["n3"],
                self.window,
            )
        )

    def _network(self, traffic: _Traffic) -> None:
        assert self.config.network is not None
        pods, walk = self.config.pods, traffic.walk
        same: Ints | None = None
        if walk is not None:
            same = np.zeros_like(traffic.bank)
            for column in (traffic.bank, walk.base, *walk.counts, *walk.strides):
                same = _pairs(same, column)
        if self.config.network.kind == "butterfly":
            # Behind the last stage, the wire is the bank.
            for stage in range(bits(pods) - 1):
                high, low = traffic.source >> stage + 1 << stage + 1, traffic.bank & (2 << stage) - 1
                self._meet(traffic, traffic.plane * pods + (high | low), same, stage)
        self._meet(traffic, traffic.bank, same, None)

    def _meet(self, traffic: _Traffic, line: Ints, same: Ints | None, stage: int | None) -> None:
        """Refuse words that meet on a line: a wire of a plane behind a stage, or a bank."""
        chosen = np.arange(len(line))
        if same is not None:
            # Jobs that are word by word the same go their ways together.
            _, chosen = np.unique(_pairs(_pairs(line, traffic.start), same), return_index=True)
        end = traffic.start + (traffic.words - 1) * traffic.period + 1
        chosen = chosen[_overlapping(line[chosen], traffic.start[chosen], end[chosen])]
        if not len(chosen):
            return
        job, word = _expand(chosen, traffic.words[chosen])
        time = traffic.start[job] + word * traffic.period[job]
        order = np.lexsort((time, line[job]))
        job, word, time = job[order], word[order], time[order]
        clash = (line[job[1:]] == line[job[:-1]]) & (time[1:] == time[:-1])
        if traffic.walk is not None:
            wanted = traffic.bank[job] << 32 | traffic.walk.at(job, word)
            clash &= wanted[1:] != wanted[:-1]
        if not clash.any():
            return
        found = np.flatnonzero(clash)
        at = int(found[np.argmin(time[found])])
        pair = sorted((int(traffic.job[job[at]]), int(traffic.job[job[at + 1]])))
        jobs = " and ".join(self._job(traffic.kind, index) for index in pair)
        wire, cycle = int(line[job[at]]), int(time[at])
        if stage is None:
            where, cycle = f"{traffic.name} bank {wire}", cycle + self.config.network_latency
        else:
            where = f"{traffic.name} network, plane {wire // self.config.pods}, stage {stage}, port {wire % self.config.pods}"
        what = "send a word each" if traffic.walk is None else "ask for different words"
        raise ProgramError(f"{where}: {jobs} {what} in cycle {cycle}")

    # P banks.

    def _partial_sums(self) -> None:
        streams, posts, config = self.streams, self.posts, self.config
        to_bank = config.write_latency + config.network_latency
        emits = streams["emit"] != Emit.NONE
        depth = self.config.memory.p_words
        self._read_ports(to_bank)
        first, stored = np.full(config.pods * depth, _NEVER), np.full(config.pods * depth, _NEVER)
        last = np.full(config.pods * depth, -1, np.int64)
        there = self._carried(depth)
        carried = np.zeros(config.pods * depth, bool)
        carried[there] = True
        stored[there] = first[there] = _BEFORE
        last[there] = _BEFORE
        last[np.arange(config.pods) * depth + zero_word(config)] = _BEFORE
        for job, word in _chunks(np.flatnonzero(emits), self.streamed):
            at = streams["p_bank"][job] * depth + self.p_walk.at(job, word)
            time = streams["start"][job] + word + to_bank
            np.minimum.at(first, at, time)
            np.maximum.at(last, at, time)
            stores = streams["emit"][job] == Emit.STORE
            where, when = at[stores], time[stores]
            taken = stored[where] != _NEVER
            stored[where] = when
            # Of several words for one address, the last assignment stays.
            taken |= stored[where] != when
            if taken.any():
                index = int(job[stores][np.argmax(taken)])
                address = int(where[np.argmax(taken)])
                raise ProgramError(
                    f"{self._job('stream', index)}: stores P bank {address // depth} address {address % depth}, "
                    f"{'which an earlier epoch left there' if carried[address] else 'which is stored twice'}"
                )
        self._refuse_carried(carried, depth)
        early = stored > first
        if early.any():
            self._refuse_early(early, first, depth, to_bank)
        for job, word in _chunks(np.arange(len(posts["start"])), self.read):
            at = posts["bank"][job] * depth + self.read_walk.at(job, word)
            time = posts["start"][job] + word
            wrong = (last[at] == -1) | (time < last[at] + 2)
            if wrong.any():
                k = int(np.argmax(wrong))
                arrives = "which is never written" if last[at[k]] == -1 else f"but a word for it arrives in cycle {last[at[k]]}"
                where = f"P bank {at[k] // depth} address {at[k] % depth}"
                raise ProgramError(f"{self._job('post', int(job[k]))}: reads {where} in cycle {time[k]}, {arrives}")

    def _carried(self, depth: int) -> Ints:
        """Addresses of accumulators of earlier epochs."""
        items = self.program.carried
        words = np.array([np.prod([end - begin for begin, end in item.box]) for item in items], np.int64)
        item, word = _expand(np.arange(len(items)), words)
        for place, count in zip((item.place for item in items), words, strict=True):
            if not (0 <= place.bank < self.config.pods and 0 <= place.base <= zero_word(self.config) - count):
                raise ProgramError(
                    f"P bank {place.bank}: words {place.base} to {place.base + count - 1} of an earlier epoch are outside"
                )
        places = np.array([item.place.bank * depth + item.place.base for item in items], np.int64)
        return places[item] + word

    def _refuse_carried(self, carried: NDArray[np.bool_], depth: int) -> None:
        """Nothing is added to accumulators of earlier epochs."""
        if not carried.any():
            return
        streams = self.streams
        for job, word in _chunks(np.flatnonzero(streams["emit"] != Emit.NONE), self.streamed):
            at = streams["p_bank"][job] * depth + self.p_walk.at(job, word)
            if carried[at].any():
                k = int(np.argmax(carried[at]))
                where = f"P bank {at[k] // depth} address {at[k] % depth}"
                raise ProgramError(f"{self._job('stream', int(job[k]))}: adds to {where}, which an earlier epoch left there")

    def _refuse_early(self, early: NDArray[np.bool_], first: Ints, depth: int, to_bank: int) -> None:
        """Name the first word that is added to an address of ``early``."""
        streams = self.streams
        for job, word in _chunks(np.flatnonzero(streams["emit"] != Emit.NONE), self.streamed):
            at = streams["p_bank"][job] * depth + self.p_walk.at(job, word)
            time = streams["start"][job] + word + to_bank
            wrong = early[at] & (time == first[at])
            if wrong.any():
                k = int(np.argmax(wrong))
                where = f"P bank {at[k] // depth} address {at[k] % depth}"
                raise ProgramError(f"{self._job('stream', int(job[k]))}: adds to {where} in cycle {time[k]}, before it is stored")

    def _read_ports(self, to_bank: int) -> None:
        """A word to be added needs the read port of its bank when it arrives."""
        streams, posts = self.streams, self.posts
        adds = np.flatnonzero(streams["emit"] == Emit.ACCUMULATE)
        line = np.concatenate([streams["p_bank"][adds], posts["bank"]])
        start = np.concatenate([streams["start"][adds] + to_bank, posts["start"]])
        end = start + np.concatenate([self.streamed[adds], self.read])
        order = np.lexsort((start, line))
        clash = (line[order][1:] == line[order][:-1]) & (start[order][1:] < end[order][:-1])
        if clash.any():
            # Neither words that arrive nor reads overlap among themselves: it is one of each.
            adding, reading = sorted(int(order[np.argmax(clash) + i]) for i in (0, 1))
            cycle = max(start[adding], start[reading])
            raise ProgramError(
                f"P bank {line[adding]}: {self._job('post', reading - len(adds))} reads in cycle {cycle}, in which a word of "
                f"{self._job('stream', int(adds[adding]))} is added"
            )

    # X banks.

    def _activations(self) -> None:
        streams, posts, config, program = self.streams, self.posts, self.config, self.program
        depth, slots = config.memory.x_words, config.array.rows // config.post_lanes
        host = np.full(config.pods * depth, -1, np.int64)
        units = (*program.external_units, *program.resident)
        words = np.array([u.region.words for u in units], np.int64)
        self._host_words(host, [u.place for u in units], words, depth, "X")
        by_host = host >= 0
        there = np.repeat(by_host[:, None], slots, axis=1)
        sender = np.full(config.pods * depth, -1, np.int64)
        arrival = np.full(config.pods * depth, -1, np.int64)
        writer = np.full((config.pods * depth, slots), -1, np.int64)
        to_bank = config.post_latency + config.network_latency
        sent = posts["n2"] * posts["n3"]
        for job, word in _chunks(np.arange(len(posts["start"])), sent):
            at = posts["x_bank"][job] * depth + self.sent_walk.at(job, word)
            time = posts["start"][job] + (word + 1) * self.window[job] - 1 + to_bank
            slot, node = posts["slot"][job], program.node_of_post[job]
            number = job << 24 | word
            before = writer[at, slot] >= 0
            writer[at, slot] = number
            before |= writer[at, slot] != number
            strange = (sender[at] >= 0) & (sender[at] != node)
            sender[at] = node
            strange |= sender[at] != node
            for wrong, what in (
                (by_host[at], "on top of what the host loaded"),
                (before, "which is written twice"),
                (strange, "which holds words of another node"),
            ):
                if wrong.any():
                    k = int(np.argmax(wrong))
                    where = f"X bank {at[k] // depth} address {at[k] % depth} slot {slot[k]}"
                    raise ProgramError(f"{self._job('post', int(job[k]))}: writes {where} in cycle {time[k]}, {what}")
            np.maximum.at(arrival, at, time)
            there[at, slot] = True
        known = np.concatenate([np.zeros((len(there), 1), np.int64), np.cumsum(there, axis=1)], axis=1)
        begin, end = self._needed_slots()
        for job, word in _chunks(np.arange(len(streams["start"])), self.streamed):
            at = streams["x_bank"][job] * depth + self.x_walk.at(job, word)
            time = streams["start"][job] + word + config.network_latency
            low, high = begin[job], end[job]
            missing = known[at, high] - known[at, low] != high - low
            late = arrival[at] >= time
            wrong = missing | late
            if wrong.any():
                k = int(np.argmax(wrong))
                where = f"X bank {at[k] // depth} address {at[k] % depth}"
                if missing[k]:
                    slot_number = int(low[k]) + int(np.argmin(there[at[k], low[k] : high[k]]))
                    what = f"slot {slot_number} of which is never written"
                else:
                    what = f"but a word of it arrives in cycle {arrival[at[k]]}"
                raise ProgramError(f"{self._job('stream', int(job[k]))}: reads {where} in cycle {time[k]}, {what}")

    def _needed_slots(self) -> tuple[Ints, Ints]:
        """Per stream, the slots [begin, end) of its X words in which there are lanes that its weights do not ignore."""
        lanes = self.config.post_lanes
        needed = np.array([_tile_lanes(self.program, item) for item in self.program.weights], np.int64).reshape(-1, 2)
        begin, end = needed[:, 0] // lanes, -(-needed[:, 1] // lanes)
        return begin[self.tile_of_stream], end[self.tile_of_stream]

    # Accumulators.

    def _accumulators(self) -> None:
        streams = self.streams
        uses = streams["accumulate"] != Accumulate.BYPASS
        # Pods do not share accumulators, and the words of one are sorted in less time than those of all.
        for pod in range(self.config.pods):
            jobs = np.flatnonzero(uses & (streams["pod"] == pod))
            job, word = _expand(jobs, self.streamed[jobs])
            row = streams["accumulator_base"][job] + word
            order = np.argsort(row, kind="stable")
            job, row = job[order], row[order]
            adds = streams["accumulate"][job] == Accumulate.ADD
            begun = np.concatenate([[False], row[1:] == row[:-1]])[: len(row)]
            before = np.roll(job, 1)
            begun &= self.program.node_of_stream[before] == self.program.node_of_stream[job]
            begun &= streams["emit"][before] == Emit.NONE
            wrong = adds & ~begun
            if wrong.any():
                found = np.flatnonzero(wrong)
                k = int(found[np.argmin(job[found])])
                raise ProgramError(
                    f"{self._job('stream', int(job[k]))}: adds to accumulator row {row[k]}, which was not initialised for it"
                )


def _expand(jobs: Ints, words: Ints) -> tuple[Ints, Ints]:
    """(job, word) of every word of jobs that have ``words`` words each, one job after the other."""
    first = np.cumsum(words) - words
    return np.repeat(jobs, words), np.arange(int(words.sum())) - np.repeat(first, words)


def _chunks(jobs: Ints, words: Ints) -> Iterator[tuple[Ints, Ints]]:
    """The words of ``jobs`` by `_expand`, in parts that fit into memory. ``words``: of all jobs there are."""
    if not len(jobs):
        return
    part = np.cumsum(words[jobs]) // _CHUNK
    for piece in np.split(jobs, np.flatnonzero(np.diff(part)) + 1):
        yield _expand(piece, words[piece])


def _pairs(left: Ints, right: Ints) -> Ints:
    """Numbers that are equal where both are."""
    _, small = np.unique(right, return_inverse=True)
    _, number = np.unique(left * (int(small.max(initial=0)) + 1) + small, return_inverse=True)
    return number.astype(np.int64)


def _overlapping(line: Ints, start: Ints, end: Ints) -> Ints:
    """Which intervals touch others on the same line, directly or over others."""
    if not len(line):
        return line
    order = np.lexsort((start, line))
    offset = line[order] * (int(end.max()) + 1)
    begins, latest = offset + start[order], np.maximum.accumulate(offset + end[order])
    cluster = np.concatenate([[0], np.cumsum(begins[1:] >= latest[:-1])])
    return order[np.bincount(cluster)[cluster] > 1]


def _tile_words(program: ChipProgram, item: WeightTile) -> int:
    return program.lowerings[item.node].operands[item.operand].units[item.step.unit].weight_rows


def _tile_lanes(program: ChipProgram, item: WeightTile) -> tuple[int, int]:
    """The lanes [begin, end) of activations that a weight tile does not ignore."""
    lowered = program.lowerings[item.node].operands[item.operand]
    unit = lowered.units[item.step.unit]
    if not unit.is_computed:
        return 0, unit.lanes
    layer, outputs = lowered.layer, lowered.tiles[item.tile].outputs
    in_group, out_group = layer.channels // layer.groups, layer.outputs // layer.groups
    first, last = outputs[0] // out_group * in_group, (outputs[-1] // out_group + 1) * in_group
    first, last = max(int(first), int(unit.channel[0])), min(int(last), int(unit.channel[-1]) + 1)
    begin = unit.first_lane + first - int(unit.channel[0])
    return begin, begin + last - first
