"""Which cases of a test are fast ones, where the others are of the same code in other sizes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def fast_of(cases: Iterable[Any], *fast: str, mark: pytest.MarkDecorator = pytest.mark.more) -> list[Any]:
    """``cases`` as parameters, of which those whose text is not in ``fast`` are for the sessions of ``mark``."""
    found = {str(case): case for case in cases}
    assert set(fast) <= set(found), f"no cases: {set(fast) - set(found)}"
    return [pytest.param(case, id=text, marks=[mark] * (text not in fast)) for text, case in found.items()]
