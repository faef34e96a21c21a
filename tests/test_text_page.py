"""docs/text.md: its program draws the pictures that the page says, as networks take them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.test_architecture import ROOT

SHAPES = {"words": (3, 48, 96), "lines": (3, 48, 192), "pages": (3, 320, 320)}
COUNTS = {"words": (24, 48), "lines": (24, 48), "pages": (6, 12)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    (program,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "text.md").read_text(encoding="utf-8"), re.M | re.S)
    (folder / "pictures.py").write_text(program, encoding="utf-8")
    subprocess.run([sys.executable, "pictures.py"], cwd=folder, check=True, timeout=300)
    return folder


@pytest.mark.parametrize("name", SHAPES)
def test_pictures(folder: Path, name: str) -> None:
    """No two are alike, and those to judge by are none of those for ranges."""
    some, others = (np.load(folder / f"{name}_{part}.npz")["x"] for part in ("some", "others"))
    for pictures, count in zip((some, others), COUNTS[name], strict=True):
        assert (pictures.shape, pictures.dtype) == ((count, *SHAPES[name]), np.float32)
        assert 0.9 < np.abs(pictures).max() < 3
        # Text, and not a ground alone.
        assert (np.ptp(pictures, axis=(2, 3)).max(axis=1) > 0.9).all()
    both = np.concatenate([some, others])
    assert len({picture.tobytes() for picture in both}) == len(both)
