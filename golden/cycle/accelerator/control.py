"""Cycle models of run control, performance counters and node window."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..ports import PortTrace, delay

RESET_CYCLES = 4
QUIET_CYCLES = 4
MAX_EPOCHS = 65534
BUSY, EPOCHS, RING_BASE, RING_SIZE, PASSES = 1, 2, 3, 4, 5
ENGINE, NODE, NETWORK, LINK = 1, 2, 3, 4
NO_COLLECTIVE = 0xFFFF

Ports = dict[str, NDArray]
Traces = dict[str, PortTrace]

_STATUS = ("done", "failed", "aborted", "refused", "reason", "error_source", "error_manager")


def run_control(inputs: Ports) -> Traces:
    """All ports of run control, run by run: a run is a few searches for the next cycle in which something happens.

    Ports of engines are (cycles, managers), all others (cycles,); they begin at reset. Without ``link_epoch`` and what belongs
    to it, the chip has no links, and run control no ports for them; without ``passes`` it goes over a network once.
    """
    return _Runs({name: np.asarray(values).astype(np.int64) for name, values in inputs.items()}).traces()


class _Runs:
    def __init__(self, inputs: Ports):
        self.cycles, self.managers = inputs["quiet"].shape
        self.links = "link_epoch" in inputs
        # Of each start: epochs of a pass, and passes. With passes they are those of the cycle before.
        back = int("passes" in inputs)
        self.pass_epochs = delay(inputs["epochs"], back)
        self.passes = delay(inputs["passes"], back) if back else np.ones(self.cycles, np.int64)
        never = {name: np.zeros(self.cycles, np.int64) for name in ("link_busy", "link_error", "prefetch", "beneath")}
        self.inputs = {"link_epoch": np.full(self.cycles, NO_COLLECTIVE), **never, **inputs}
        names: tuple[str, ...] = (
            "engine_start",
            "chip_start",
            "chip_rewind",
            "core_reset",
            "busy",
            "counters_clear",
            "launched",
            "running",
            "begins",
        )
        names += ("event_done", "event_error", "event_epoch", "event_refused", "prefetch_hit", "wasted")
        names += ("wait_prefetch", "wait_demand", "wait_store", "link_begin", "collecting")
        self.outputs: Ports = {name: np.zeros(self.cycles, np.int64) for name in names}
        # (cycle, what, value): what a register holds from that cycle on.
        self.changes: list[tuple[int, str, int]] = []
        # Cycles of a run in which engines may work; of these, those in which there may be errors and epochs.
        self.started, self.active = np.zeros(self.cycles, bool), np.zeros(self.cycles, bool)
        codes = [self.inputs[name] != 0 for name in ("chip_error", "link_error")]
        self.error = (inputs["engine_error"] != 0).any(axis=1) | codes[0] | codes[1]
        self.quiet: NDArray[np.bool_] = inputs["quiet"].min(axis=1) != 0
        # Of the cycle before: readiness is known one cycle later.
        self.complete = {ring: delay(inputs[f"{ring}_complete"].min(axis=1), 1) for ring in ("demand", "prefetch")}
        self.dirty = False
        free = 0
        while free < self.cycles:
            free = self._idle(free)

    def _first(self, where: NDArray[np.bool_], begin: int) -> int:
        """The first cycle from ``begin`` on; the end of time if there is none."""
        found = np.flatnonzero(where[begin:])
        return begin + int(found[0]) if len(found) else self.cycles

    def _mark(self, name: str, begin: int, end: int | None = None, value: int = 1) -> None:
        self.outputs[name][begin : begin + 1 if end is None else end] = value

    def _idle(self, free: int) -> int:
        """From an idle cycle to the next after the first run or reset; returns that."""
        start, soft_reset, clear = (self.inputs[name] for name in ("start", "soft_reset", "clear"))
        for t in _cycles(start | soft_reset | clear, free):
            refusal = self._refusal(t)
            accepted = start[t] and not refusal
            if accepted or soft_reset[t] or clear[t]:
                self.changes += [(t + 1, name, 0) for name in _STATUS]
            if accepted or clear[t]:
                self._mark("counters_clear", t)
            if start[t] and refusal:
                self._refuse(t, refusal)
            if accepted:
                return self._run(t)
            if soft_reset[t]:
                self._mark("core_reset", t + 1, t + 1 + RESET_CYCLES)
                self.dirty = False
                return self._occupied(t, t + RESET_CYCLES)
        return self.cycles

    def _refusal(self, t: int) -> int:
        if self.pass_epochs[t] > MAX_EPOCHS:
            return EPOCHS
        if any((self.inputs[f"{ring}_base"][t] % 64).any() for ring in self.complete):
            return RING_BASE
        if not all(self.inputs[f"{ring}_size"][t].all() for ring in self.complete):
            return RING_SIZE
        return 0 if self.passes[t] and self.pass_epochs[t] * self.passes[t] <= MAX_EPOCHS else PASSES

    def _refuse(self, t: int, reason: int) -> None:
        self._mark("event_refused", t)
        self.changes += [(t + 1, "refused", 1), (t + 1, "reason", reason)]

    def _occupied(self, t: int, last: int) -> int:
        """Cycles t + 1 to ``last`` are busy: commands are refused."""
        self._mark("busy", t + 1, last + 1)
        commands = self.inputs["start"] | self.inputs["soft_reset"] | self.inputs["clear"]
        for refused in _cycles(commands[: last + 1], t + 1):
            self._refuse(refused, BUSY)
        return last + 1

    def _run(self, t: int) -> int:
        dirty = self.dirty or any(self.inputs[name][t] for name in ("chip_busy", "chip_error", "soft_reset"))
        p = t + 1 + (RESET_CYCLES if dirty else 0)
        self.dirty = False
        self._mark("core_reset", t + 1, p)
        for name, cycle in (("engine_start", p), ("chip_rewind", p), ("chip_start", p + 1)):
            self._mark(name, cycle)
        of_pass = int(self.pass_epochs[t])
        epochs = of_pass * int(self.passes[t])
        self.changes += [(t + 1, "epochs_done", 0), (t + 1, "chip_epochs", epochs)]
        failure = self._first(self.error, p + 2)
        abort = self._first(self.inputs["abort"] != 0, t + 1)
        end = self._epochs(p + 2, epochs, of_pass if "passes" in self.inputs else 0, min(failure, abort) + 1)
        in_a_row = sum(delay(self.quiet[end:].astype(int), back) for back in range(QUIET_CYCLES))
        done = self._first(np.concatenate([np.zeros(end, bool), in_a_row == QUIET_CYCLES]), end)
        self.started[p : done + 1], self.active[p + 2 : done + 1] = True, True
        self._mark("launched", p, done + 1)
        self._mark("event_done", done)
        self._mark("wasted", done, value=int(min(failure, abort) < done))
        self.changes.append((done + 1, "done", 1))
        if failure <= done and failure < self.cycles:
            self._failure(failure)
        if abort <= done:
            self.changes.append((abort + 1, "aborted", 1))
        self.dirty = min(failure, abort) <= done
        return self._occupied(t, done)

    def _epochs(self, gap: int, epochs: int, of_pass: int, stop: int) -> int:
        """The epochs of a run whose first gap begins in cycle ``gap``; returns its first cycle of END. In ``stop`` it is failed.

        Behind every ``of_pass`` epochs, if that is not 0, the chip is rewound."""
        index, done, epoch_before = 0, 0, False
        while gap < self.cycles:
            ready = {ring: complete > index for ring, complete in self.complete.items()}
            all_ready = self._first(ready["demand"] & ready["prefetch"], gap)
            leave = max(gap, min(all_ready, stop))
            waiting = np.zeros(self.cycles, bool)
            waiting[gap : min(leave, stop)] = True
            if index == epochs:
                self.outputs["wait_store"][waiting] = 1
            else:
                self.outputs["wait_prefetch"][waiting & ~ready["prefetch"]] = 1
                self.outputs["wait_demand"][waiting & ready["prefetch"]] = 1
            if leave >= stop or index == epochs or leave >= self.cycles:
                return leave + 1
            self._mark("begins", leave)
            self._mark("prefetch_hit", leave, value=int(epoch_before and ready["prefetch"][gap]))
            collective = self.inputs["link_epoch"][leave] == index
            if collective:
                self._mark("link_begin", leave)
            index, epoch_before = index + 1, True
            over = self._first((self.inputs["chip_busy"] == 0) & (self.inputs["link_busy"] == 0), leave + 1)
            self._mark("collecting" if collective else "running", leave + 1, over + 1)
            if of_pass and index % of_pass == 0:
                self._mark("chip_rewind", over)
            if over < self.cycles and not self._spoiled(over, over >= stop, collective):
                done += 1
                self._mark("event_epoch", over)
                self.changes.append((over + 1, "epochs_done", done))
            gap = over + 1
        return self.cycles

    def _spoiled(self, over: int, stopped: bool, collective: bool) -> bool:
        """Whether what ends in cycle ``over`` does not count. What a chip does goes on after a failure, a collective does not."""
        of_links = collective and (stopped or self.inputs["link_error"][over] != 0)
        return bool(self.inputs["chip_error"][over] or of_links)

    def _failure(self, cycle: int) -> None:
        codes = self.inputs["engine_error"][cycle]
        self._mark("event_error", cycle)
        self.changes.append((cycle + 1, "failed", 1))
        if codes.any():
            self.changes += [(cycle + 1, "error_source", ENGINE), (cycle + 1, "error_manager", int(np.argmax(codes != 0)))]
        elif self.inputs["link_error"][cycle]:
            self.changes.append((cycle + 1, "error_source", LINK))
        else:
            network = self.inputs["chip_network_error"][cycle] & 1
            self.changes.append((cycle + 1, "error_source", NETWORK if network else NODE))

    def _registers(self) -> Ports:
        names = (*_STATUS, "epochs_done", "chip_epochs")
        registers = {name: np.zeros(self.cycles, np.int64) for name in names}
        # Of the changes of one cycle the later ones count.
        for cycle, name, value in sorted(self.changes, key=lambda change: change[0]):
            registers[name][cycle:] = value
        return registers

    def traces(self) -> Traces:
        registers = self._registers()
        named = np.arange(self.managers) == self.inputs["cancel_manager"][:, None]
        cancelled = named & (self.inputs["cancel_valid"] != 0)[:, None] & self.active[:, None]
        values = {
            **self.outputs,
            **registers,
            "gap": 1 - self.outputs["running"] - self.outputs["collecting"],
            "chip_hold": 1 - self.outputs["begins"] + self.outputs["link_begin"],
            "link_stop": registers["failed"] | registers["aborted"],
            "engine_stop": np.where(self.started, registers["aborted"], 1),
            "engine_cancel": delay(cancelled.astype(np.int64), 1),
        }
        if self.links:
            allowed = (self.inputs["beneath"] != 0) | (self.outputs["collecting"] == 0)
            values["enable"] = self.inputs["prefetch"] * allowed
        else:
            values = {name: value for name, value in values.items() if name not in ("link_begin", "link_stop", "collecting")}
        known = {name: np.ones(value.shape, bool) for name, value in values.items()}
        values["engine_cancel_tag"] = delay(self.inputs["cancel_tag"], 1)
        known["engine_cancel_tag"] = np.arange(self.cycles) > 0
        return {name: PortTrace(value, known[name]) for name, value in values.items()}


def _cycles(where: NDArray, begin: int) -> list[int]:
    """The cycles from ``begin`` on that are not 0."""
    return (np.flatnonzero(where[begin:]) + begin).tolist()


def performance(inputs: Ports) -> Traces:
    """All counters: sums of events since the last cycle with ``clear``, known one cycle after the next.

    Ports of engines are (cycles, managers), all others (cycles,). With ``collecting`` among them there are counters of links.
    """
    given = {name: np.asarray(values).astype(np.int64) for name, values in inputs.items()}
    read, kind, write = (given[name] for name in ("read_beat", "read_class", "write_beat"))
    events = {
        "cycles": given["launched"],
        "run_cycles": given["running"],
        **{name: given[name] for name in ("wait_prefetch", "wait_demand", "wait_store")},
        **{f"{name}_beats": (read * (kind == i)).sum(axis=1) for i, name in enumerate(("descriptor", "demand", "prefetch"))},
        "write_beats": write.sum(axis=1),
        "hbm_busy": (read | write).sum(axis=1),
        **{
            f"stall_{name}": given[f"stall_{name}"].sum(axis=1) * given["launched"]
            for name in ("gate", "cap", "gap", "buffer", "bus")
        },
        "prefetch_hits": given["begins"] & given["prefetch_hit"],
        "prefetch_late": given["begins"] & ~given["prefetch_hit"] & 1,
    }
    if "collecting" in given:
        collecting, launched = given["collecting"], given["launched"]
        events |= {name: given[name] & launched for name in ("link_sent", "link_received", "wait_neighbour")}
        events |= {"collective_cycles": collecting, "beneath_beats": events["prefetch_beats"] * collecting}
    counts = {name: _since(values, given["clear"] != 0) for name, values in events.items()}
    counts["prefetch_unused"] = _unused(given)
    return {f"count_{name}": PortTrace(values, np.ones(len(values), bool)) for name, values in counts.items()}


def _since(events: NDArray[np.int64], clear: NDArray[np.bool_]) -> NDArray[np.int64]:
    """In cycle t: events up to t - 2 that came after the last clear up to t - 1."""
    cycles = np.arange(len(events))
    total = np.concatenate([[0], np.cumsum(events)])
    cleared = delay(np.maximum.accumulate(np.where(clear, cycles + 1, 0)), 1)
    return np.maximum(total[np.maximum(cycles - 1, 0)] - total[cleared], 0)


def _unused(given: Ports) -> NDArray[np.int64]:
    ahead = given["unconsumed"].sum(axis=1) % 2**32
    result = np.zeros(len(ahead), np.int64)
    on = given["running"] | given.get("collecting", given["running"])
    last: int | None = None
    unused = 0
    for t in range(len(ahead)):
        result[t] = unused
        if given["wasted"][t]:
            unused = int(ahead[t] if last is None else last)
        if on[t]:
            last = int(ahead[t])
        if given["clear"][t]:
            last, unused = None, 0
    return result


def node_window(inputs: Ports, *, nodes: int, latency: int, words: tuple[int, int], selects: tuple[int, int]) -> Traces:
    """All ports of the node window of ``nodes`` nodes. ``words``, ``selects``: of counters and of errors, how many there are and
    how an access names them. ``read`` comes only while no read is under way. Ports of managers are (cycles, managers)."""
    given = {name: np.asarray(values).astype(np.int64) for name, values in inputs.items()}
    cycles, managers = given["engine_host_valid"].shape
    each = nodes // managers
    ports = {name.removeprefix("engine_"): given[name].copy() for name in given if name.startswith("engine_")}
    outputs = {name: np.zeros(cycles, np.int64) for name in ("done", "error", "data")}
    data_known = np.zeros(cycles, bool)
    for t in np.flatnonzero(given["read"]):
        node, kind, index = (int(given[name][t]) for name in ("node", "words", "index"))
        if node >= nodes or index >= words[kind]:
            if t + 1 < cycles:
                outputs["done"][t + 1] = outputs["error"][t + 1] = 1
            continue
        manager = node // each
        free = np.flatnonzero(given["engine_host_valid"][t + 1 :, manager] == 0)
        if not len(free):
            continue
        granted = t + 1 + int(free[0])
        access = {"host_valid": 1, "host_unit": node % each, "host_select": selects[kind], "host_address": index}
        for name, values in ports.items():
            values[granted, manager] = access.get(name, 0)
        if granted + latency < cycles:
            outputs["done"][granted + latency] = 1
            outputs["data"][granted + latency] = given["read_data"][granted + latency, manager]
            data_known[granted + latency] = True
    known = {name: np.ones(values.shape, bool) for name, values in (ports | outputs).items()} | {"data": data_known}
    return {name: PortTrace(values, known[name]) for name, values in (ports | outputs).items()}
