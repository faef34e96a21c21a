"""Runs of the chips of a ring, of which those that are alike are computed once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from podweave.golden.cycle.accelerator.run import RunFigures

from .accelerator import AcceleratorRun, Prediction


class AlikeRuns:
    """Runs from collective to collective. A run depends on what it does (`AcceleratorRun.identity`) and on when its collectives
    are over: chips of which both are the same are one. When they are told different cycles they part, and what is new repeats what
    they had been told before; so nothing is computed more often than once for each chip.
    """

    def __init__(self, runs: Sequence[AcceleratorRun]):
        self.runs = runs
        members: dict[Hashable, list[int]] = {}
        for number, run in enumerate(runs):
            members.setdefault(run.identity(), []).append(number)
        self.groups = [_Group(runs[each[0]], each, ()) for each in members.values()]

    def collectives(self) -> list[int]:
        """Of each chip, the cycle in which its next collective begins."""
        at = {number: group.collective for group in self.groups for number in group.members}
        return [at[number] for number in range(len(self.runs))]

    def go_on(self, overs: Sequence[int]) -> None:
        """``overs``: of each chip, when that collective is over."""
        groups = []
        for group in self.groups:
            parts: dict[int, list[int]] = {}
            for number in group.members:
                parts.setdefault(overs[number], []).append(number)
            before = tuple(group.told)
            for part, (over, members) in enumerate(parts.items()):
                if part:
                    group = _Group(self.runs[members[0]], members, before)
                group.members = members
                group.tell(over)
                groups.append(group)
        self.groups = groups

    def predictions(self) -> list[Prediction]:
        """Of each chip, when there are no more collectives."""
        found: dict[int, Prediction] = {}
        for group in self.groups:
            assert group.figures is not None, "a collective was not looked at"
            prediction = self.runs[group.members[0]].prediction(group.figures)
            found |= dict.fromkeys(group.members, prediction)
        return [found[number] for number in range(len(self.runs))]


class _Group:
    """Runs that are one. ``told``: when each collective so far was over; ``collective``: the cycle in which the next one begins;
    ``figures``: of the run, when there is none."""

    def __init__(self, run: AcceleratorRun, members: list[int], told: Sequence[int]):
        self.members, self.told = members, list[int]()
        self.steps = run.steps()
        self.collective = -1
        self.figures: RunFigures | None = None
        self._send(None)
        for over in told:
            self.tell(over)

    def tell(self, over: int) -> None:
        """The collective is over in that cycle."""
        self.told.append(over)
        self._send(over)

    def _send(self, over: int | None) -> None:
        try:
            self.collective = self.steps.send(over)  # type: ignore[arg-type]
        except StopIteration as end:
            self.figures = end.value
