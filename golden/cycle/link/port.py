"""Every output port of a link port in every cycle."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..ports import PortTrace, delay
from .words import FAULT, flit_crc

_KIND = 2
"""Bits of the kind of a flit, below the number of its run."""


class PortModel:
    """A link port whose inputs are known: arrays over cycles, of data (cycles, bytes of a flit), by the names of its ports.

    ``buffer_words``: credits that it gives. ``room``: flits for which its buffer has room.
    """

    def __init__(self, inputs: dict[str, NDArray], *, buffer_words: int, room: int):
        self.inputs = {name: np.asarray(values).astype(np.int64) for name, values in inputs.items()}
        self.buffer_words, self.room = buffer_words, room
        self.cycles = len(self.inputs["start"])
        self.starts: list[int] = np.flatnonzero(self.inputs["start"]).tolist()
        # The number of the run in each cycle.
        changes = np.zeros(self.cycles, np.int64)
        latest = np.maximum.accumulate(np.where(self.inputs["start"] == 1, np.arange(self.cycles), -1))
        changes[1:] = np.where(latest[:-1] >= 0, self.inputs["run"][latest[:-1]], 0)
        self.run = changes

    def ports(self) -> dict[str, PortTrace]:
        up = self.inputs["link_tx_up"] & self.inputs["link_rx_up"]
        return {"link_up": _certain(delay(up, 1)), **self._sent(), **self._received(), **self._returned()}

    # -- To the next chip.

    def _credits(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """In each cycle: number of the run of credits, how many it has had, and whether it is this run."""
        when = np.flatnonzero(self.inputs["link_tx_credit"])
        runs = self.inputs["link_tx_credit_run"][when]
        changed = np.diff(runs, prepend=0) != 0
        era = np.cumsum(changed)
        first = np.flatnonzero(np.append(True, changed[1:])) if len(when) else np.zeros(0, np.int64)
        number = np.arange(len(when)) - first[np.searchsorted(first, np.arange(len(when)), side="right") - 1] + 1
        # A credit counts from the next cycle on.
        latest = np.searchsorted(when, np.arange(self.cycles), side="left") - 1
        none = latest < 0
        if not len(when):
            zeros = np.zeros(self.cycles, np.int64)
            return zeros, zeros, self.run == 0
        return (
            np.where(none, 0, era[latest]),
            np.where(none, 0, number[latest]),
            np.where(none, 0, runs[latest]) == self.run,
        )

    def _sent(self) -> dict[str, PortTrace]:
        cycles, inputs = self.cycles, self.inputs
        era, given, mine = self._credits()
        taken_of_era = np.zeros(int(era.max(initial=0)) + 1, np.int64)
        accepting = np.append(np.flatnonzero(inputs["link_tx_ready"]), cycles)
        offers = np.flatnonzero(inputs["send_valid"])
        first = inputs["send_first"] == 1
        faults = np.flatnonzero((inputs["fault"] == 1) & (inputs["start"] == 0)).tolist()

        # Of each flit: handed on, on the link from, to, whether it is a FAULT.
        flits: list[tuple[int, int, int, bool]] = []
        free, shown, accepted, offer, fault = 0, -1, -1, 0, 0
        while True:
            fault_at, fault = self._next_fault(faults, fault, free)
            offer = max(offer, int(np.searchsorted(offers, free)))
            # The first flit offered that may be taken before that.
            sent_at = cycles
            while offer < len(offers) and offers[offer] < fault_at:
                cycle = int(offers[offer])
                if not first[cycle] or (mine[cycle] and given[cycle] > taken_of_era[era[cycle]]):
                    sent_at = cycle
                    break
                offer += 1
            at = min(sent_at, fault_at)
            if at >= cycles:
                break
            if at == sent_at:
                taken_of_era[era[at]] += first[at]
            shown = max(at + 2, accepted + 1)
            accepted = int(accepting[np.searchsorted(accepting, shown)]) if shown < cycles else cycles
            flits.append((at, shown, accepted, at == fault_at))
            free = max(at + 1, shown - 1)
            fault = int(np.searchsorted(faults, at)) if at == fault_at else fault
        return self._sent_ports(flits, era, given, mine)

    def _next_fault(self, faults: list[int], number: int, free: int) -> tuple[int, int]:
        """When a FAULT takes the room, which is free from ``free`` on, and which one it is; none: beyond the end."""
        while number < len(faults):
            at = max(faults[number] + 1, free)
            if not any(faults[number] < start < at for start in self.starts):
                return min(at, self.cycles), number
            number += 1
        return self.cycles, number

    def _sent_ports(
        self, flits: list[tuple[int, int, int, bool]], era: NDArray[np.int64], given: NDArray[np.int64], mine: NDArray[np.bool_]
    ) -> dict[str, PortTrace]:
        cycles, inputs = self.cycles, self.inputs
        free, fault, taken = np.ones(cycles, bool), np.zeros(cycles, bool), np.zeros(cycles, np.int64)
        valid, number = np.zeros(cycles, bool), np.zeros(cycles, np.int64)
        for i, (at, shown, accepted, is_fault) in enumerate(flits):
            free[at + 1 : shown - 1] = False
            fault[at] = is_fault
            taken[at] = not is_fault and inputs["send_first"][at]
            valid[shown : accepted + 1] = True
            number[shown : accepted + 1] = i
        # Credits taken before, of the same run of credits.
        total = np.cumsum(taken) - taken
        begin = np.searchsorted(era, era, side="left")
        credit = mine & (given > total - total[begin])
        ready = free & ~fault & ((inputs["send_first"] == 0) | credit)
        handed = np.array([flit[0] for flit in flits], np.int64)
        faulty = np.array([flit[3] for flit in flits], bool)
        kind = np.where(faulty, FAULT, inputs["send_kind"][handed])
        data = np.where(faulty[:, None], 0, inputs["send_data"][handed])
        user = kind | self.run[handed] << _KIND
        columns = {"data": data, "user": user, "crc": flit_crc(data.astype(np.uint8), user)}
        return {
            "send_ready": _certain(ready),
            "link_tx_valid": _certain(valid),
            **{f"link_tx_{name}": _shown(values, number, valid) for name, values in columns.items()},
        }

    # -- From the chip before.

    def _received(self) -> dict[str, PortTrace]:
        inputs = self.inputs
        arrived = np.flatnonzero(inputs["link_rx_valid"][:-1])
        looked = arrived + 1
        user, data = inputs["link_rx_user"][arrived], inputs["link_rx_data"][arrived]
        good = flit_crc(data.astype(np.uint8), user) == inputs["link_rx_crc"][arrived]
        kind, run = user & ((1 << _KIND) - 1), user >> _KIND
        fits = (kind != FAULT) & (run == self.run[looked])
        taking = np.append(np.flatnonzero(inputs["received_ready"]), 2 * self.cycles)
        valid, number = np.zeros(self.cycles, bool), np.zeros(self.cycles, np.int64)
        crc_error, overflow = np.zeros(self.cycles, bool), np.zeros(self.cycles, bool)
        for begin, end in self._runs():
            taken: list[int] = []
            for i in np.flatnonzero((looked > begin) & (looked < end)).tolist():
                if not good[i]:
                    crc_error[looked[i] + 1 : end + 1] = True
                if not fits[i]:
                    continue
                if len(taken) - bisect.bisect_left(taken, looked[i]) == self.room:
                    overflow[looked[i] + 1 : end + 1] = True
                    continue
                shown = max(int(looked[i]) + 2, taken[-1] + 1 if taken else 0)
                taken.append(int(taking[min(int(np.searchsorted(taking, shown)), len(taking) - 1)]))
                part = slice(shown, min(taken[-1], end) + 1)
                valid[part], number[part] = True, i
        return {
            "received_valid": _certain(valid),
            "received_kind": _shown(kind, number, valid),
            "received_data": _shown(data, number, valid),
            "crc_error": _certain(crc_error),
            "overflow": _certain(overflow),
            "neighbour_failed": _certain(self._failed(looked[(kind == FAULT) & good], run[(kind == FAULT) & good])),
        }

    def _runs(self) -> Iterator[tuple[int, int]]:
        """From the cycle of a start to that of the next one, and before the first."""
        bounds = [-1, *self.starts, self.cycles - 1]
        yield from itertools.pairwise(bounds)

    def _failed(self, when: NDArray[np.int64], run: NDArray[np.int64]) -> NDArray[np.bool_]:
        """In each cycle: a FAULT of this run is kept."""
        kept = np.full(self.cycles + 1, -1)
        events = [(cycle, 0, int(self.inputs["run"][cycle])) for cycle in self.starts]
        # Of both in one cycle, the FAULT counts.
        events += [(cycle, 1, number) for cycle, number in zip(when.tolist(), run.tolist(), strict=True)]
        current = -1
        for cycle, arrives, number in sorted(events):
            if arrives:
                current = number
            elif current != number:
                current = -1
            kept[cycle + 1 :] = current
        return kept[: self.cycles] == self.run

    def _returned(self) -> dict[str, PortTrace]:
        credit = np.zeros(self.cycles + self.buffer_words + 2, bool)
        returned = np.flatnonzero(self.inputs["give_back"])
        for begin, end in self._runs():
            given = -1
            if begin >= 0:
                credit[begin + 1 :] = False
                given = begin + 1 + self.buffer_words
                credit[begin + 2 : given + 1] = True
            for cycle in returned[(returned > begin) & (returned < end)].tolist():
                given = max(cycle + 2, given + 1)
                if given < len(credit):
                    credit[given] = True
        credit = credit[: self.cycles]
        return {"link_rx_credit": _certain(credit), "link_rx_credit_run": PortTrace(delay(self.run, 1), credit)}


def _certain(value: NDArray) -> PortTrace:
    return PortTrace(value.astype(np.int64), np.ones(len(value), bool))


def _shown(column: NDArray, number: NDArray[np.int64], valid: NDArray[np.bool_]) -> PortTrace:
    """Entry ``number`` of ``column`` in each cycle, known where it is ``valid``."""
    if not len(column):
        column = np.zeros((1, *column.shape[1:]), np.int64)
    value = column[number]
    known = np.repeat(valid[:, None], value.shape[1], axis=1) if value.ndim == 2 else valid
    return PortTrace(np.where(known, value, 0).astype(np.int64), known)
