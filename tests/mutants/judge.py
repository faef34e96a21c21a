"""One target judged: its tests on its mutants, and those that survive proven equivalent where they are."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from podweave.synth.equivalence import is_equivalent
from podweave.synth.mutants import Mutants, Mutation
from tests.mutants.campaign import HUNG, KILLED, SURVIVED, Campaign, CampaignError
from tests.mutants.targets import TARGETS

EQUIVALENT = "equivalent"
_OPTIONS = ["-s", "-o", "addopts=--import-mode=importlib --strict-markers", "-p", "no:terminal", "-p", "no:cacheprovider"]
Progress = Callable[[str], None]


def judge(name: str, *, count: int, seed: int, processes: int, progress: Progress) -> dict[str, dict[str, Any]]:
    """What became of the mutants of the blocks of one target.

    Parameters
    ----------
    name : str
        One of `TARGETS`.
    count, seed : int
        Mutants of each block, and what decides which.
    processes : int
        At a time.
    progress : callable
        Told what is being done.

    Returns
    -------
    dict
        By kind of block, JSON-ready: ``module``; ``target``; ``tests`` that simulate it; ``mutants``, of which ``killed``,
        ``hung``, ``equivalent``, ``survived``; ``survivors`` and ``equivalents``, each mutant as a text.

    Errors
    ------
    CampaignError
        No test simulates one of the blocks, or a test fails on blocks as they are.
    """
    target = TARGETS[name]
    campaign = Campaign(target.kinds, max(1, round(count * target.share)), seed, processes, progress)
    pytest.main([*(target.quick or target.tests), "-m", "not campaign", *_OPTIONS], plugins=[campaign])
    if campaign.failure or not campaign.outcomes:
        raise CampaignError(campaign.failure or f"pytest has run no test of {' '.join(target.quick or target.tests)}")
    survivors = [
        (kind, made, mutation)
        for kind, made in campaign.mutants.items()
        for mutation in made.mutations
        if campaign.outcomes[mutation.number].state == SURVIVED
    ]
    proven: dict[int, int] = {}

    def prove(survivor: tuple[str, Mutants, Mutation]) -> None:
        _, made, mutation = survivor
        proven[mutation.number] = is_equivalent(made, mutation)
        progress(f"{len(proven)} of {len(survivors)} survivors compared, {sum(map(bool, proven.values()))} equivalent")

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(prove, survivors))
    rows = {}
    for kind, made in campaign.mutants.items():
        states = {each.number: campaign.outcomes[each.number].state for each in made.mutations}
        states |= {number: EQUIVALENT for number in states if proven.get(number)}
        texts = {each.number: each.text for each in made.mutations}
        counts = {state: list(states.values()).count(state) for state in (KILLED, HUNG, EQUIVALENT, SURVIVED)}
        rows[kind] = {
            "module": made.module,
            "target": name,
            "tests": len(campaign.tests),
            "mutants": len(states),
            **counts,
            "survivors": [texts[number] for number, state in states.items() if state == SURVIVED],
            "equivalents": [texts[number] for number, state in states.items() if state == EQUIVALENT],
        }
    return rows
