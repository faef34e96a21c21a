"""podweave.studies: points on a cluster, in which order they are run, and those that are refused; pictures of many series."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from podweave.pictures.studies import draw_study
from podweave.studies import frame as frame_module
from podweave.studies import points as points_module
from podweave.studies.from_memory import MemoryPoint
from podweave.studies.points import Figures, Point, point_key, sweep
from podweave.studies.preserve import W_WORDS, preserve_study
from podweave.studies.ring_points import RingPoint
from podweave.studies.run import run_study
from podweave.tb.build.toolchain import ToolchainError
from tests.podweave.studies.test_run import planted

SMALL = (("pods", 4), ("rows", 8))
POINTS = [Point("throughput", f"gemm:{m}x16x8", "ours", SMALL) for m in (8, 32, 16)]


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODWEAVE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A cluster of one machine, this one, in place of Dask's; what it was asked to do, in order."""
    asked: list[Any] = []

    class Client:
        def __init__(self, address: str):
            asked.append(address)

        def submit(self, run: Any, point: Any, *, pure: bool) -> Any:
            assert not pure
            asked.append(point)
            done: Future[Any] = Future()
            done.set_result(run(point))
            return done

        def __enter__(self) -> Client:
            return self

        def __exit__(self, *_: object) -> None:
            asked.append("closed")

    distributed = ModuleType("distributed")
    distributed.Client = Client  # type: ignore[attr-defined]
    # Those that were asked for last are done first.
    distributed.as_completed = lambda futures: reversed(list(futures))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "distributed", distributed)
    return asked


def test_points_on_a_cluster(cluster: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest first; figures are in the order of points, kept as they come, and not asked for again."""
    monkeypatch.setattr(points_module, "run_point", lambda point: {"cycles": len(point.network), "network": point.network})
    told: list[str] = []
    figures = sweep(POINTS, cluster="tcp://here:1", progress=told.append)
    assert [one["network"] for one in figures] == [point.network for point in POINTS]
    assert cluster == ["tcp://here:1", POINTS[1], POINTS[2], POINTS[0], "closed"]
    assert [text.partition(" points")[0] for text in told] == ["0/3", "1/3", "2/3", "3/3"]
    assert sweep(POINTS, cluster="tcp://here:1") == figures
    assert len(cluster) == 5


def test_other_sources_on_a_cluster_are_noticed(cluster: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    versions = iter(["theirs", "ours"])
    monkeypatch.setattr(points_module, "run_point", lambda point: {"cycles": 1})
    keys = [point_key(point) for point in POINTS[:1]]
    monkeypatch.setattr(points_module, "point_key", lambda point: keys[0])
    monkeypatch.setattr(points_module, "sources_version", lambda: next(versions))
    with pytest.raises(ToolchainError, match="a process of the sweep has other sources of podweave than this one"):
        sweep(POINTS[:1], cluster="tcp://here:1")


def test_longer_work_costs_more() -> None:
    """From memory more than on a chip; on a ring, with more links and with a larger graph."""
    plain, memory = (kind("throughput", "gemm:40x96x64", "ours", SMALL) for kind in (Point, MemoryPoint))
    assert memory.cost() == 4 * plain.cost() == 4 * 40 * 96 * 64
    ring = RingPoint("llm8x16", "llama_64_4_2_96_2,rows=1,context=16", 2, (16,))
    several = RingPoint("llm8x16", "llama_64_4_2_96_2,rows=1,context=16", 2, (16, 32))
    longer = RingPoint("llm8x16", "llama_64_4_2_96_4,rows=1,context=16", 2, (16,))
    assert several.cost() - ring.cost() == 2e7
    assert longer.cost() > ring.cost()


def test_what_a_point_depends_on() -> None:
    """Every field, and what is in the preset."""
    ring = RingPoint("llm8x16", "llama_64_4_2_96_2,rows=1,context=16", 2, (16,))
    others = [
        RingPoint("llm8x16", "llama_64_4_2_96_2,rows=1,context=16", 2, (16,), **change)
        for change in ({"memory": 17}, {"w_words": 4096}, {"latency": 99}, {"ahead": 0.5})
    ]
    assert len({repr(point.identity()) for point in (ring, *others)}) == 5
    assert "w_words=4096" in repr(others[1].identity())


def test_a_point_of_layers_on_a_ring_is_refused() -> None:
    found = RingPoint("llm8x16", "gemm:8x8x8", 2, (16,)).figures()
    assert found == {"refused": "gemm:8x8x8 has no operations on rows: several chips share those"}


def test_a_capacity_that_is_refused_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many columns as the others."""

    def of_rings(points: Sequence[RingPoint], **_: object) -> list[Figures]:
        figures: Figures = {"bytes": 32768, "collectives": 8, "w_bytes": 1 << 20, "beat_bytes": 16}
        found: list[Figures] = []
        for point in points:
            # Of more layers, more.
            size = 1000 * (4 if "1408_4" in point.workload else 2)
            way = {"cycles": size, "collective": size // 4, "run": size // 5, "beneath": 0}
            links = [dict.fromkeys(("on", "apart", "off"), way)] * len(point.links)
            refused = point.w_words == W_WORDS[0]
            found.append(
                {"refused": "too small"}
                if refused
                else figures | {"memory_bytes_per_cycle": 16.0, "loading": size / 2, "links": links}
            )
        return found

    monkeypatch.setattr(frame_module, "sweep", of_rings)
    capacity = preserve_study(["qwen3_0.6b"])["tables"][1]
    assert capacity["rows"][0] == [W_WORDS[0], "refused", *[None] * (len(capacity["columns"]) - 2)]
    assert capacity["rows"][1][:5] == [W_WORDS[1], 1024, 4000, 4000, 4000]


def test_crossbars_by_the_model_are_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only if there are any."""
    for by_model in (True, False):
        monkeypatch.setattr(
            frame_module,
            "sweep",
            lambda points, by_model=by_model, **options: [{**each, "model_only": by_model} for each in planted(points)],
        )
        notes = run_study("interconnect", networks="all")["tables"][0]["notes"]
        assert ("crossbar: by the model only; as RTL in one module one so wide is refused." in notes) == by_model


def chart(count: int, values: Sequence[float | None]) -> dict[str, Any]:
    series = [{"name": f"s{number}", "values": list(values), "published": number % 2 == 1} for number in range(count)]
    return {"title": "speed", "chart": {"x": ["a", "b"], "x_label": "network", "y_label": "times", "series": series}}


@pytest.mark.parametrize("count", [2, 9])
def test_many_series_are_lines(count: int, tmp_path: Path) -> None:
    """Of bars there is no room for more than eight; each series has a name, ours and others'."""
    draw_study(chart(count, [1.0, None]), tmp_path / "study.svg")
    text = (tmp_path / "study.svg").read_text()
    assert all(f">s{number}{'' if number % 2 else ' (ours)'}<" in text for number in range(count))
    # Markers of lines are used again and again; bars are hatched.
    assert ("stroke-dasharray" in text) == (count == 9)


def test_nothing_that_was_measured_is_an_empty_picture(tmp_path: Path) -> None:
    draw_study(chart(2, [None, None]), tmp_path / "study.svg")
    text = (tmp_path / "study.svg").read_text()
    assert ">speed<" in text
    assert "s0" not in text


def test_a_process_that_is_killed_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done before is kept."""

    class Pool:
        def __init__(self, *given: Any, **options: Any):
            self.count = 0

        def submit(self, run: Any, point: Any) -> Future[Any]:
            done: Future[Any] = Future()
            self.count += 1
            if self.count == 1:
                done.set_result((points_module.sources_version(), {"cycles": 7}))
            else:
                done.set_exception(BrokenProcessPool("terminated abruptly"))
            return done

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(points_module, "pool_of", Pool)
    monkeypatch.setattr(points_module, "as_completed", list)
    with pytest.raises(ChildProcessError, match=r"^a process of the sweep was killed, .* run again with fewer --jobs"):
        sweep(POINTS, jobs=2)
    # The longest has come first.
    assert [points_module.stored_figures(point_key(point)) for point in POINTS] == [None, {"cycles": 7}, None]
