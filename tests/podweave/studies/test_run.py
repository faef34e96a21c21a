"""podweave study: points and their store, bounds against the published ones, tables beside published values, plots."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import geometric_mean, harmonic_mean
from typing import Any

import pytest
from rich.console import Console

from podweave.cli.app import main
from podweave.ir.frontends import load_graph, load_workload
from podweave.ir.layers import WorkloadError
from podweave.pictures.studies import draw_study
from podweave.runs.chip import model_network
from podweave.spec.config_parts import ConfigError
from podweave.studies import frame as frame_module
from podweave.studies import points as points_module
from podweave.studies import run as run_module
from podweave.studies.counts import gemms, layered_cycles, macs, packed_cycles, pods_within, power, tera_ops
from podweave.studies.points import Figures, Point, point_key, run_point, store_directory, study_config, study_graph, sweep
from podweave.studies.run import STUDIES, run_study
from podweave.studies.tables import SHARED, TEN, gmean, hmean, print_study, sosa_tops
from podweave.tb.build.toolchain import ToolchainError

GEMM = "gemm:40x24x16"
SMALL = (("pods", 4), ("rows", 8))
POINTS = [Point("throughput", f"gemm:{m}x16x8", "ours", SMALL) for m in (8, 16, 24, 32)]


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODWEAVE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Point]:
    """The points that were computed in this process, in place of their figures only their names."""
    found: list[Point] = []

    def record(point: Point) -> Figures:
        found.append(point)
        return {"cycles": len(point.network)}

    monkeypatch.setattr(points_module, "run_point", record)
    return found


def planted(points: Sequence[Point], **_: object) -> list[Figures]:
    """Figures as `run_point` gives them, from the names of the points alone."""
    rows = []
    for point in points:
        if point.network == "bert_base_100" and point.series in ("crossbar", "64KiB"):
            rows.append({"refused": "X bank 0 is full"})
            continue
        figures: Figures = {"pods": dict(point.changes)["pods"], "cycles": 1000, "tops": 100.0 + len(point.network), "busy": 0.5}
        figures |= {
            "tile_share": 0.4,
            "used": {"x_words": 11, "w_words": 22, "p_words": 33},
            "model_only": point.series == "crossbar",
        }
        rows.append(figures | {"compile_s": 1.5})
    return rows


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Reports of whole studies on planted figures."""
    monkeypatch.setattr(frame_module, "sweep", planted)
    return run_study


def row(report: dict[str, Any], table: int, name: str) -> dict[str, Any]:
    chosen = report["tables"][table]
    return next(dict(zip(chosen["columns"], cells, strict=True)) for cells in chosen["rows"] if str(cells[0]).startswith(name))


def test_bounds_of_sosa_s_benchmarks() -> None:
    layered, packed = [], []
    for network in SHARED:
        sizes = gemms(study_graph(network))
        # Poolings and the diagonals of residual additions are not counted: what is left is the benchmark set.
        assert sorted(sizes) == sorted((one.positions, one.reduction, one.outputs) for one in load_workload(network))
        layered.append(tera_ops(macs(sizes), layered_cycles(sizes, 256)))
        packed.append(tera_ops(macs(sizes), packed_cycles(sizes, 256)))
    assert harmonic_mean(layered) == pytest.approx(399, abs=1)
    assert harmonic_mean(packed) == pytest.approx(453, abs=1)
    assert hmean([sosa_tops(network) for network in SHARED]) == pytest.approx(221, abs=1)
    assert sosa_tops("resnet50_224") is None


def test_groups_are_gemms_of_their_own() -> None:
    assert gemms(load_graph("conv:6x6x8x4,kernel=3x3,groups=2")) == [(16, 36, 2)] * 2


def test_power_is_that_of_the_published_chips() -> None:
    for pods, expansion, watts in ((256, 2, 260.2), (256, 1, 248.9), (128, 8, 158.4), (256, 8, 328.0)):
        assert power(32, pods, expansion) == pytest.approx(watts, rel=0.005)
    # The chips of the published plot of granularity.
    assert {size: pods_within(size) for size in (16, 32, 64, 128, 256, 512)} == {16: 512, 32: 256, 64: 128, 128: 32, 256: 8, 512: 2}
    assert power(8, pods_within(8)) <= 400 < power(8, 2 * pods_within(8))


def test_a_point_is_what_the_exact_model_says() -> None:
    figures = run_point(Point("throughput", GEMM, "ours", SMALL))
    model = model_network(load_graph(GEMM), study_config(dict(SMALL)))
    assert figures["cycles"] == model["cycles"]
    assert figures["busy"] == model["busy"]
    assert figures["used"] == model["used"]
    assert figures["macs"] == 40 * 24 * 16
    assert figures["tops"] == pytest.approx(2 * figures["macs"] / figures["cycles"] / 1e3)
    assert figures["utilization"] == pytest.approx(figures["macs"] / (figures["cycles"] * 4 * 64))
    assert figures["tile_share"] == pytest.approx(5 * 3 * 2 * 8 / 4 / figures["cycles"])


def test_the_chip_of_the_studies() -> None:
    config = study_config({})
    assert (config.pods, config.array.rows, config.array.group_rows) == (256, 32, 16)
    memory = config.memory
    assert (memory.x_planes, memory.w_planes, memory.p_planes, memory.y_planes) == (1, 1, 1, 2)
    assert (config.memory.x_words, config.memory.w_words, config.memory.p_words) == (65536, 65536, 8192)
    assert study_config({"pods": 16}).memory.p_words == 16 * 8192
    assert study_config({"rows": 256, "cols": 256, "pods": 8}).program is not None
    with pytest.raises(ConfigError, match=r"^pods must be a power of two, got 3$"):
        study_config({"pods": 3})
    with pytest.raises(ConfigError, match=r"^unknown configuration fields: nonsense$"):
        study_config({"nonsense": 1})


def test_a_crossbar_that_cannot_be_emitted_is_of_the_model_only() -> None:
    for pods, model_only in ((4, False), (64, True)):
        figures = run_point(Point("interconnect", GEMM, "crossbar", (("pods", pods), ("kind", "crossbar"), ("y_planes", 1))))
        assert figures["model_only"] is model_only
        assert figures["cycles"] > 0


@pytest.mark.parametrize(
    ("network", "changes", "sentence"),
    [
        ("gemm:256x64x64", (*SMALL, ("p_words", 16)), "P bank"),
        ("gemm:8x64x64", (*SMALL, ("w_words", 16)), "W bank"),
        (GEMM, (("pods", 512),), "pods of a study must be between 2 and 256, got 512"),
    ],
)
def test_refused_points_keep_their_sentence(network: str, changes: tuple, sentence: str) -> None:
    (figures,) = sweep([Point("banks", network, "tiny", changes)], jobs=1)
    assert list(figures) == ["refused"]
    assert sentence in figures["refused"]


def test_an_interrupted_sweep_goes_on_where_it_was(computed: list[Point], monkeypatch: pytest.MonkeyPatch) -> None:
    record = points_module.run_point

    def interrupt(point: Point) -> Figures:
        if len(computed) == 2:
            raise KeyboardInterrupt
        return record(point)

    monkeypatch.setattr(points_module, "run_point", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sweep(POINTS, jobs=1)
    # The longest first.
    assert computed == POINTS[:1:-1]
    assert len(list(store_directory().iterdir())) == 2
    monkeypatch.setattr(points_module, "run_point", record)
    told: list[str] = []
    assert sweep(POINTS, jobs=1, progress=told.append) == [{"cycles": len(point.network)} for point in POINTS]
    assert computed == POINTS[::-1]
    assert told[0].startswith("2/4 points done (2 from the store)")
    assert told[-1].startswith("4/4 points done")
    sweep(POINTS, jobs=1)
    assert len(computed) == 4
    sweep(POINTS, jobs=1, fresh=True)
    assert len(computed) == 8


def test_equal_points_are_computed_once(computed: list[Point]) -> None:
    twin = Point("partition", POINTS[0].network, "another", SMALL[::-1])
    assert sweep([POINTS[0], twin], jobs=1) == [{"cycles": len(twin.network)}] * 2
    assert len(computed) == 1


def test_what_a_key_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "layers.csv"
    file.write_text("layer,M,K,N\none,8,8,8\n")
    points = [Point("banks", str(file), "a", SMALL), Point("banks", str(file), "a"), Point("banks", str(file), "a", SMALL, 8)]
    keys = [point_key(point) for point in points]
    file.write_text("layer,M,K,N\none,8,8,9\n")
    study_graph.cache_clear()
    keys.append(point_key(points[0]))
    monkeypatch.setattr(points_module, "sources_version", lambda: "other sources")
    keys.append(point_key(points[0]))
    assert len(set(keys)) == 5


def test_points_on_several_processes() -> None:
    points = [*POINTS[:2], Point("banks", "gemm:256x64x64", "tiny", (*SMALL, ("p_words", 16)))]
    together = sweep(points, jobs=2)
    alone = [run_point(point) for point in points]
    assert [one.get("cycles") for one in together] == [one.get("cycles") for one in alone]
    assert together[2] == alone[2]
    assert sweep(points, jobs=2) == together


def test_other_sources_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_module, "sources_version", lambda: "of this process")
    with pytest.raises(ToolchainError, match="other sources of podweave"):
        sweep(POINTS, jobs=2)
    assert not store_directory().exists()


def test_dask() -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        figures = sweep(POINTS, cluster=cluster.scheduler_address)
    assert [one["cycles"] for one in figures] == [run_point(point)["cycles"] for point in POINTS]
    assert len(list(store_directory().iterdir())) == len(POINTS)


def test_dask_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ToolchainError, match=r"^--dask needs the Python package distributed, .*: pip install podweave\[dask\]$"):
        sweep(POINTS, cluster="tcp://127.0.0.1:1")


def test_means_of_incomplete_sets_are_none() -> None:
    assert hmean([1.0, 2.0]) == pytest.approx(4 / 3)
    assert gmean([1.0, 4.0]) == pytest.approx(2)
    for values in ([], [1.0, None]):
        assert hmean(values) is None
        assert gmean(values) is None


def test_throughput_beside_sosa(report: Callable[..., dict[str, Any]]) -> None:
    made = report("throughput")
    assert made["networks"] == list(TEN)
    assert set(SHARED) < set(TEN)
    means = row(made, 0, "hmean of 10")
    # As published: the mean was not computed from the bars by us.
    assert means["SOSA TOPS"] == pytest.approx(206.5, abs=0.05)
    assert means["layered"] == pytest.approx(417, abs=1)
    assert means["packed"] == pytest.approx(462, abs=1)
    assert means["TOPS"] == hmean([100.0 + len(network) for network in TEN])
    assert row(made, 0, "resnet50_299")["busy %"] == 50
    assert row(made, 1, "resnet50_299") == {"network": "resnet50_299", "X": 11, "W": 22, "P": 33, "seconds": 1.5}
    # What was published for 256 pods does not stand beside another chip.
    assert row(report("throughput", pods=128), 0, "hmean of 10")["SOSA TOPS"] is None


def test_interconnect_beside_sosa(report: Callable[..., dict[str, Any]]) -> None:
    made = report("interconnect")
    assert row(made, 0, "SOSA: gmean of 6")["butterfly-2"] == 77.0
    assert row(made, 0, "SOSA: gmean of 6")["crossbar"] == 78.1
    assert row(made, 0, "resnet50_299")["SOSA b-2"] == 98.5
    assert row(made, 0, "gmean, shared of 5")["SOSA b-2"] == pytest.approx(geometric_mean([98.5, 56.0, 69.1, 83.2, 74.2]))
    assert row(made, 0, "gmean of 7")["butterfly-4"] == pytest.approx(50)
    assert row(made, 0, "bert_base_100")["crossbar"] == "refused"
    assert row(made, 0, "gmean of 7")["crossbar"] is None
    assert row(made, 2, "SOSA: hmean of 10")["butterfly-2"] == 162.3
    assert any("by the model only" in note for note in made["tables"][0]["notes"])
    other = report("interconnect", pods=256, networks="bert_tiny_100")
    assert [cells[0] for cells in other["tables"][0]["rows"]] == ["bert_tiny_100", "gmean of 1"]
    assert row(other, 2, "SOSA: hmean of 10")["butterfly-2"] == 206.5


def test_partition_beside_sosa(report: Callable[..., dict[str, Any]]) -> None:
    made = report("partition")
    assert [cells[-1] for cells in made["tables"][0]["rows"]] == [103.6, 168.6, 206.5, 167.6, 139.6, 85.7, 41.9, None]
    by_series = {point["series"]: point for point in made["points"]}
    assert by_series["32"]["partition"] == 32
    assert by_series["ours"]["partition"] is None
    assert by_series["none"]["partition"] == 0
    assert by_series["none"]["changes"] == {"pods": 256, "accumulator_rows": 2048}


def test_granularity_beside_sosa(report: Callable[..., dict[str, Any]]) -> None:
    made = report("granularity")
    assert [cells[1] for cells in made["tables"][0]["rows"]] == ["256 of 2048", "256 of 512", 256, 128, 32, 8]
    large = row(made, 1, "32x32")
    assert large["SOSA DSE"] == 1.052
    assert large["SOSA 10"] == 317.4
    assert large["SOSA same"] == pytest.approx(harmonic_mean([625.7, 286.9]))
    assert large["TOPS/W"] == pytest.approx(row(made, 0, "32x32")["hmean of 2"] / power(32, 256))
    assert row(report("granularity", networks=GEMM), 1, "32x32")["SOSA same"] is None


def test_banks_beside_sosa(report: Callable[..., dict[str, Any]]) -> None:
    made = report("banks", networks="bert_base_100")
    assert [cells[2] for cells in made["tables"][0]["rows"]] == ["fits", "refused", *["fits"] * 5]
    assert [cells[-1] for cells in made["tables"][0]["rows"]] == [None, 0.711, 0.88, 1.0, 1.0, 1.0, 1.0]
    assert row(made, 0, "256KiB")["X and W / P words"] == "8,192 / 2,048"
    console = Console(record=True, width=60)
    print_study(console, made)
    text = console.export_text()
    assert "refused: bert_base_100, 64KiB: X bank 0 is full" in text
    # No column is lost on a narrow terminal.
    assert "SOSA relative" in text


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_says_what_is_whose_and_is_drawn(report: Callable[..., dict[str, Any]], tmp_path: Path, name: str) -> None:
    made = report(name, networks="all")
    assert made == json.loads(json.dumps(made))
    notes = " ".join(note for table in made["tables"] for note in table["notes"])
    assert "ours: exact cycles" in notes
    assert "SOSA" in notes
    assert "2203.11540" in made["source"]
    for suffix, head in ((".svg", b"<?xml"), (".png", b"\x89PNG")):
        file = tmp_path / f"study{suffix}"
        draw_study(made, file)
        assert file.read_bytes().startswith(head)
    drawn = (tmp_path / "study.svg").read_text()
    assert "(ours)" in drawn
    assert "(published)" in drawn or "(reproduced)" in drawn
    draw_study(made, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == drawn


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["podweave", "study", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asked = ("throughput", "--networks", f"{GEMM},gemm:8x8x8", "--pods", 4, "--jobs", 1)
    assert call(monkeypatch, *asked, "--plot", tmp_path, "--json", tmp_path / "deep" / "study.json") == 0
    shown = capsys.readouterr()
    assert "4 pods of 32x32" in shown.out
    assert "study throughput: 0/2 points done" in shown.err
    assert (tmp_path / "study_throughput.svg").exists()
    made = json.loads((tmp_path / "deep" / "study.json").read_text())
    assert [point["network"] for point in made["points"]] == [GEMM, "gemm:8x8x8"]
    assert call(monkeypatch, *asked, "--json", "-") == 0
    shown = capsys.readouterr()
    again = json.loads(shown.out)
    assert again["points"] == made["points"]
    assert "2/2 points done (2 from the store)" in shown.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nonsense"], "'nonsense' is not one of granularity, interconnect, partition, banks, throughput"),
        (["throughput", "--networks", "lenet"], "workload 'lenet' is none of"),
        (["throughput", "--networks", ","], "--networks ',' names no network"),
        (["throughput", "--pods", "3"], "pods must be a power of two, got 3"),
        (["throughput", "--jobs", "0"], "Invalid value for '--jobs'"),
        (["throughput", "--plot", "study.txt"], "study.txt must end in .svg, .png or .pdf"),
    ],
)
def test_what_the_command_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert call(monkeypatch, *arguments) == 2
    assert sentence in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_networks_by_name() -> None:
    chosen = run_module.chosen_networks
    assert chosen("granularity", None) == ("resnet50_299", "bert_medium_100")
    assert chosen("granularity", "all") == SHARED
    assert chosen("granularity", f"{GEMM}, {GEMM}") == (GEMM,)
    with pytest.raises(WorkloadError):
        chosen("granularity", "resnet51_299")
