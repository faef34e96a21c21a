"""compiler.chip.check.program: legal programs pass, and what passes computes the same."""

from __future__ import annotations

import numpy as np
import pytest

from podweave.compiler.chip.check.program import check_chip
from podweave.compiler.chip.executor import execute_chip
from podweave.ir.constants import Constants
from podweave.ir.frontends.random_constants import random_parameters
from tests.compiler.chip.check.chip_programs import PROGRAMS, changed, message, pads, program


@pytest.mark.parametrize("name", PROGRAMS)
def test_legal_programs_pass(name: str) -> None:
    check_chip(program(name))


def test_programs_are_as_the_plants_expect() -> None:
    assert set(program("in_pods").streams["accumulate"]) == {0, 1, 2}
    assert 2 in program("in_banks").streams["emit"]
    assert set(program("slots").posts["slot"]) == {0, 1}
    assert set(program("slices").posts["slice"]) == {0, 1}
    assert all(pads(program(name)).any() and len(program(name).external_units) for name in PROGRAMS)


@pytest.mark.parametrize("name", ["in_banks", "slots"])
def test_a_wrong_address_is_found_here_or_in_what_is_computed(name: str) -> None:
    """Address and bank of some jobs, one off: most break a rule, and what does not gives another result."""
    rng = np.random.default_rng(5)
    legal = program(name)
    parameters = random_parameters(legal.graph)
    inputs = {"in": rng.integers(-128, 128, (1, 6, 6, 4), dtype=np.int8)}
    constants = Constants(parameters)
    expected, _ = execute_chip(legal, inputs, constants)
    found, passed = 0, []
    fields = {
        "loads": ("w_base", "w_bank"),
        "streams": ("x_base", "p_base", "p_bank"),
        "posts": ("p_base", "x_base", "x_bank"),
    }
    for kind, field in [(kind, field) for kind, names in fields.items() for field in names]:
        jobs = getattr(legal, kind)
        matter = np.flatnonzero(jobs["emit"] > 0) if field.startswith("p_") and kind == "streams" else np.arange(len(jobs["start"]))
        for job in rng.choice(matter, min(8, len(matter)), replace=False):
            value = int(jobs[field][job])
            wrong = changed(legal, kind, int(job), **{field: value ^ 1 if field.endswith("bank") else value + 1})
            if message(wrong):
                found += 1
                continue
            got, _ = execute_chip(wrong, inputs, constants)
            if np.array_equal(got["pool"], expected["pool"]):
                passed.append((kind, field, int(job)))
    assert found > 30
    assert not passed
