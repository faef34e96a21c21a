"""Areas of networks: the line over the width of their words, and the sums of the reports of chips."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from podweave.rtl.accelerator.emit import Emitted, emit, emit_block
from podweave.rtl.network.butterfly import ReadButterfly, WriteButterfly
from podweave.rtl.network.crossbar import ReadCrossbar, WriteCrossbar
from podweave.rtl.parts.amaranth_internals import mark_used
from podweave.rtl.parts.blocks import Block
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ConfigError
from podweave.spec.presets import load_config
from podweave.synth import area, networks
from podweave.synth.area import area_report
from podweave.synth.blocks import BlockModule, Hierarchy
from podweave.synth.cells import Cells, synthesise
from podweave.synth.liberty import load_liberty
from podweave.synth.network_table import network_table
from podweave.synth.networks import (
    NARROW,
    NETWORKS,
    WIDE,
    network_areas,
    network_blocks,
    network_shares,
    on_the_line,
    with_width,
    word_width,
)

BLOCKS: dict[str, Callable[[int], Block]] = {
    "read_butterfly": lambda bits: ReadButterfly(stages=2, payload=5, data=bits, pipeline=1, turnaround=1),
    "write_butterfly": lambda bits: WriteButterfly(stages=2, payload=bits, pipeline=2),
    "read_crossbar": lambda bits: ReadCrossbar(ports=4, payload=5, data=bits, depth=2, turnaround=1),
    "write_crossbar": lambda bits: WriteCrossbar(ports=4, payload=bits, depth=2),
}


@pytest.fixture(autouse=True, scope="module")
def _shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODWEAVE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def measured(block: Block) -> Cells:
    """Cells of a block of exactly its own width."""
    hierarchy = Hierarchy(emit_block(block))
    return synthesise(hierarchy[block.module_name], "\n", flow="booth", liberty=load_liberty())


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.campaign] if "crossbar" in kind else []) for kind in BLOCKS]
)
def test_area_is_a_line_over_the_width(kind: str) -> None:
    block = BLOCKS[kind](72)
    whole, line = measured(block), on_the_line(block, measured)
    assert line.area == pytest.approx(whole.area, rel=0.02)
    assert line.sequential_area == pytest.approx(whole.sequential_area, rel=1e-6)
    assert line.cells == pytest.approx(whole.cells, rel=0.05)


@pytest.mark.campaign
@pytest.mark.parametrize("pods", [16, 64])
@pytest.mark.parametrize("network", ["x", "y"])
def test_line_of_real_butterflies(pods: int, network: str) -> None:
    block = network_blocks(load_config("chip16x32").replace(pods=pods, banks=pods))[network][0].block
    assert word_width(block) >= 256
    assert on_the_line(block, measured).area == pytest.approx(measured(block).area, rel=0.01)


@pytest.mark.parametrize("kind", BLOCKS)
def test_line_through_two_narrow_blocks(kind: str) -> None:
    asked: list[Block] = []

    def whole(block: Block) -> Cells:
        asked.append(block)
        return Cells(100.0 + 3.0 * word_width(block), 10.0 + 2.0 * word_width(block), 7 + word_width(block))

    # Amaranth would warn of a block that is never elaborated; those of `with_width` may be.
    block = with_width(with_width(wide := BLOCKS[kind](256), NARROW), 256)
    mark_used(wide)
    assert block.module_name == wide.module_name
    assert on_the_line(block, whole) == Cells(100.0 + 3.0 * 256, 10.0 + 2.0 * 256, 7 + 256)
    assert [(type(narrow), word_width(narrow)) for narrow in asked] == [(type(block), NARROW), (type(block), WIDE)]
    asked.clear()
    on_the_line(with_width(block, WIDE), whole)
    assert [word_width(narrow) for narrow in asked] == [WIDE]


def _chip(**changes: int | str) -> ChipConfig:
    return load_config("chip2x4").replace(**changes)


@pytest.mark.parametrize("kind", ["butterfly", "crossbar"])
def test_blocks_of_networks_are_those_of_the_chip(kind: str) -> None:
    config = _chip(kind=kind, pods=32, banks=32, x_planes=2, y_planes=2, x_words=512)
    expected: Counter[str] = Counter()
    for name, blocks in network_blocks(config).items():
        for found in blocks:
            expected[found.block.module_name] += (2 if name in "xy" else 1) * found.instances
    emitted = emit(config).sidecar["modules"]
    placed = {name: count for name, count in emitted["chip"]["instances"].items() if kind in emitted[name]["kind"]}
    assert placed == expected


def test_areas_of_networks() -> None:
    config = _chip(x_planes=4, y_planes=2, pods=8, banks=8)
    one = {name: sum(b.instances for b in blocks) for name, blocks in network_blocks(config).items()}
    assert one == dict.fromkeys(NETWORKS, 1)
    areas = network_areas(config, lambda block: float(word_width(block)))
    assert areas == {"x": 4 * 32, "w": 32, "p": 4 * 32 + 8 + 1, "y": 2 * (32 + 8 + 1)}
    shares = network_shares(areas, pods=8, pod_area=50.0, chip_area=1000.0)
    assert shares["x"] == {"area": 128.0, "area_per_pod": 16.0, "share_of_pod": 0.32, "share_of_chip": 0.128}
    assert shares["all"]["area"] == sum(areas.values())
    assert "share_of_chip" not in network_shares(areas, pods=8, pod_area=50.0)["all"]


def pretended(module: BlockModule, boxes: str, *, flow: str, liberty: object) -> Cells:
    """Stands for synthesis where only sums matter: an area from the name, for networks also from the width."""
    area = float(zlib.crc32(module.kind.encode()) % 1000 + len(module.source.splitlines()))
    if "butterfly" in module.kind:
        area = 50.0 * int(module.name.split("payload")[1].split("_")[0])
    return Cells(area, area / 2, int(area) // 3)


@pytest.fixture(scope="module", params=["chip", "accelerator"])
def small_chip(request: pytest.FixtureRequest) -> tuple[ChipConfig, Emitted]:
    # X deeper than W: no two networks share a block.
    config = _chip(w_planes=2, y_planes=2, x_words=512)
    return config, emit(config, top=request.param)


@pytest.fixture
def chip(small_chip: tuple[ChipConfig, Emitted], monkeypatch: pytest.MonkeyPatch) -> tuple[ChipConfig, Emitted, dict[str, Any]]:
    monkeypatch.setattr(area, "synthesise", pretended)
    monkeypatch.setattr(networks, "synthesise", pretended)
    config, emitted = small_chip
    return config, emitted, area_report(emitted)


def test_report_of_a_chip_adds_up(chip: tuple[ChipConfig, Emitted, dict[str, Any]]) -> None:
    config, emitted, report = chip
    blocks, parts = report["blocks"], report["chip"]
    wiring = {"chip", "control", "accelerator"} & blocks.keys()
    assert emitted.top in wiring
    assert all(blocks[name]["area"] == 0 for name in wiring)
    assert blocks[emitted.top]["area_with_children"] == pytest.approx(report["total_area"], abs=0.1)
    assert ("prefetch_engine" in parts["kinds"]) == (emitted.top == "accelerator")
    assert sum(block["area"] for block in blocks.values()) == pytest.approx(report["total_area"], abs=0.1)
    assert sum(block["share"] for block in blocks.values()) == pytest.approx(1)

    assert parts["pods"] == config.pods == blocks["pod"]["instances"] == 2
    assert parts["pod_area"] == blocks["pod"]["area_with_children"]
    assert {block["kind"] for block in blocks.values()} == {*parts["kinds"], *wiring}
    for figure, total in (("area", report["total_area"]), ("sram_bits", report["sram_bits"]), ("share", 1)):
        assert sum(kind[figure] for kind in parts["kinds"].values()) == pytest.approx(total, abs=0.1)
    for kind in parts["kinds"].values():
        assert kind["area_per_pod"] == pytest.approx(kind["area"] / 2, abs=0.01)
        assert kind["sram_bits_per_pod"] * 2 == kind["sram_bits"]

    networks = parts["networks"]
    assert list(networks) == [*NETWORKS, "all"]
    for name, found in network_blocks(config).items():
        rows = [blocks[b.block.module_name] for b in found]
        assert [row["instances"] for row in rows] == [(2 if name in "wy" else 1) * b.instances for b in found]
        assert networks[name]["area"] == pytest.approx(sum(row["area"] for row in rows))
        assert networks[name]["area"] > 0
    for key in ("area", "area_per_pod", "share_of_pod", "share_of_chip"):
        assert networks["all"][key] == pytest.approx(sum(networks[name][key] for name in NETWORKS))
    of_networks = sum(kind["area"] for name, kind in parts["kinds"].items() if "butterfly" in name)
    assert networks["all"]["area"] == pytest.approx(of_networks)
    assert networks["all"]["share_of_pod"] == pytest.approx(of_networks / 2 / parts["pod_area"])
    assert networks["all"]["share_of_chip"] == pytest.approx(of_networks / report["total_area"])


def test_part_of_a_chip_has_no_networks(chip: tuple[ChipConfig, Emitted, dict[str, Any]]) -> None:
    _, emitted, report = chip
    pod = area_report(emitted, block="pod")
    assert pod["chip"] is None
    assert pod["total_area"] == report["chip"]["pod_area"]
    each = [row["area_each"] for row in report["blocks"].values() if row["kind"] == "write_butterfly"]
    assert area_report(emitted, block="write_butterfly")["total_area"] == pytest.approx(sum(each))


def test_table_agrees_with_reports(chip: tuple[ChipConfig, Emitted, dict[str, Any]]) -> None:
    config, _, report = chip
    one, two = network_table(config, pods=(2,), y_planes=(1, 2), pipelines=(1,))["rows"]
    assert [(row["pods"], row["y_planes"], row["pipeline"]) for row in (one, two)] == [(2, 1, 1), (2, 2, 1)]
    assert two["pod_area"] == report["chip"]["pod_area"]
    for name, row in two["networks"].items():
        expected = report["chip"]["networks"][name]
        assert row == pytest.approx({key: expected[key] for key in row})
    more = two["networks"]["y"]["area"] / 2
    for name, row in two["networks"].items():
        assert one["networks"][name]["area"] == pytest.approx(row["area"] - (more if name in ("y", "all") else 0))


def test_table_needs_a_network() -> None:
    with pytest.raises(ConfigError, match="pod4 has one, and its networks are wires"):
        network_table(load_config("pod4"))


@pytest.mark.campaign
def test_networks_of_64_pods() -> None:
    rows = network_table(load_config("chip16x32"), pods=(64,), y_planes=(2,))["rows"]
    shares = [row["networks"]["all"]["share_of_pod"] for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert shares[1] <= 0.17
