"""The page on numbers says what is measured."""

from tests.golden.layers.number_errors import HEADER, table
from tests.test_architecture import ROOT


def test_the_page_has_the_errors_that_are_measured() -> None:
    page = (ROOT / "docs" / "numbers.md").read_text(encoding="utf-8")
    found = table()
    assert page.count(HEADER) == 1
    assert page.split(HEADER)[1].split("\n\n")[0].rstrip("\n") == found.removeprefix(HEADER).rstrip("\n")
    # None that is nothing, and none so large that something saturates.
    errors = [[float(cell) for cell in line.split("|")[4:6]] for line in found.removeprefix(HEADER).splitlines()]
    assert all(0 < rms < largest < 0.1 for largest, rms in errors)
