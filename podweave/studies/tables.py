"""Tables of studies: what every one is made of, and how it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import geometric_mean, harmonic_mean
from typing import Any

from rich.console import Console

from ..reports.tables import say
from ..reports.tables import table as text_table
from .points import Figures, Point
from .published import Table, load_published

Cell = str | float | int | None
SHARED = ("resnet50_299", "densenet121_299", "inception_299", "bert_base_100", "bert_medium_100")
"""Networks of SOSA's benchmark set for which lists of its GEMMs come with podweave."""
TEN = (
    *("resnet50_299", "resnet101_299", "resnet152_299", "densenet121_299", "densenet169_299", "densenet201_299", "inception_299"),
    *("bert_medium_100", "bert_base_100", "bert_large_100"),
)
"""All of SOSA's benchmark set."""

BUSY = (
    "busy (ours): share of pod cycles in which a word of activations streams, of poolings and residual additions too, from the "
    "first cycle of the run to the last. tiles (ours): what the bound of perfectly packed tiles (M, K, N cut to the array) is of "
    "our cycles, above 100 where we need not pad M to a tile. SOSA's busy: tiles / (rounds * pods)."
)
OURS = "ours: exact cycles of the compiled program, batch 1, weights resident, 1 GHz; TOPS = 2 * MAC of the GEMMs / cycles."


@dataclass(frozen=True)
class Results:
    """Figures of a sweep by network and series; what was refused has None for every figure."""

    networks: tuple[str, ...]
    pods: int
    figures: dict[tuple[str, str], Figures]

    @classmethod
    def of(cls, networks: Sequence[str], pods: int, points: Sequence[Point], figures: Sequence[Figures]) -> Results:
        found = {(point.network, point.series): one for point, one in zip(points, figures, strict=True)}
        return cls(tuple(networks), pods, found)

    def get(self, network: str, series: str, name: str) -> Any:
        return self.figures[network, series].get(name)

    def cell(self, network: str, series: str, name: str, scale: float = 1) -> Cell:
        """A figure as a cell of a table."""
        value = self.get(network, series, name)
        return "refused" if value is None else value * scale

    def values(self, networks: Sequence[str], series: str, name: str, scale: float = 1) -> list[float | None]:
        found = [self.get(network, series, name) for network in networks]
        return [None if value is None else value * scale for value in found]


def hmean(values: Sequence[float | None]) -> float | None:
    """The harmonic mean, None if a value is missing or there are none: means of different sets are not to be compared."""
    present = [value for value in values if value is not None]
    return harmonic_mean(present) if present and len(present) == len(values) else None


def gmean(values: Sequence[float | None]) -> float | None:
    """The geometric mean, None as in `hmean`."""
    present = [value for value in values if value is not None]
    return geometric_mean(present) if present and len(present) == len(values) else None


def published_tables() -> dict[str, Table]:
    return load_published("sosa").tables


def sosa_tops(network: str) -> float | None:
    """TOPS of a network by SOSA's scheduler on 256 pods of 32x32: the bar of the plot, which is scaled to 400 W, scaled back."""
    tables = published_tables()
    bar, watts = tables["granularity"].value("32x32", network), tables["operating_point"].value("hmean", "watts")
    return None if bar is None or watts is None else bar * watts / 400


def shared(networks: Sequence[str]) -> list[str]:
    """Those of the networks that SOSA's set has too, at the same size."""
    return [network for network in networks if network in SHARED]


def without_empty(rows: Sequence[Sequence[Cell]]) -> list[Sequence[Cell]]:
    """Rows that have a cell beside their name: a mean of nothing, or what was published for other chips only, is no row."""
    return [row for row in rows if any(cell is not None for cell in row[1:])]


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], notes: Sequence[str]) -> dict[str, Any]:
    assert all(len(row) == len(columns) for row in rows)
    return {"title": title, "columns": list(columns), "rows": [list(row) for row in rows], "notes": list(notes)}


def chart(x_label: str, y_label: str, x: Sequence[str], series: dict[str, Sequence[Cell]], published: str) -> dict[str, Any]:
    """What `pictures.studies.draw_study` draws; series whose name begins with ``published`` are not ours, and say what they are."""
    drawn = []
    for name, values in series.items():
        assert len(values) == len(x)
        numbers = [None if isinstance(value, str) else value for value in values]
        drawn.append({"name": name, "values": numbers, "published": name.startswith(published)})
    return {"x_label": x_label, "y_label": y_label, "x": list(x), "series": drawn}


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.3f}" if abs(cell) < 10 else f"{cell:,.1f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def print_study(console: Console, report: dict[str, Any]) -> None:
    """Every table with its notes, then what was refused, each with its sentence."""
    console.print(report["title"], highlight=False)
    for one in report["tables"]:
        console.print(f"\n{one['title']}", highlight=False)
        made = text_table("", one["columns"], [[_text(cell) for cell in row] for row in one["rows"]])
        # A line that is too long for the terminal is wrapped by it: no column may be folded or dropped, least of all in a file.
        made.width = console.measure(made, options=console.options.update(width=1000)).maximum
        console.print(made, crop=False)
        for note in one["notes"]:
            say(console, f"  {note}")
    refused = [point for point in report["points"] if "refused" in point["figures"]]
    if refused:
        console.print()
    for point in refused:
        sentence = point["figures"]["refused"]
        say(console, f"refused: {point['network']}, {point['series']}: {sentence}")
    count, seconds = len(report["points"]), report["wall_s"]["sweep"]
    say(console, f"\npoints: {count}, in {seconds:.1f} s. Source: {report['source']}")
