"""podweave.pictures.sqnr: every layer is in the picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from podweave.pictures.sqnr import draw_sqnr


@pytest.mark.parametrize("count", [3, 60])
def test_layers_are_drawn(tmp_path: Path, count: int) -> None:
    rows = [
        {
            "operation": f"layer{number}",
            "operator": "Conv" if number % 2 else "Add",
            "sqnr_db": None if number == 1 else 20.0 + number,
        }
        for number in range(count)
    ]
    draw_sqnr(rows, "a title", tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert all(f">{told}<" in text for told in ("a title", "Conv", "Add", "no noise", "signal over noise (dB)"))
    # Of many, the lowest are named.
    assert [f">layer{number}<" in text for number in (0, 2, count - 1)] == [True, True, count == 3]
    draw_sqnr(rows, "a title", tmp_path / "b.svg")
    assert (tmp_path / "b.svg").read_text() == text
