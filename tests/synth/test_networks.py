"""Areas of networks: the line over the width of their words, and the sums of the reports of chips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rtl.blocks import Block
from rtl.butterfly import ReadButterfly, WriteButterfly
from rtl.config import ChipConfig, ConfigError, load_config
from rtl.crossbar import ReadCrossbar, WriteCrossbar
from rtl.emit import Emitted, emit
from synth.area import area_report
from synth.blocks import Hierarchy
from synth.cells import Cells
from synth.liberty import load_liberty
from synth.network_table import network_table
from synth.networks import (
    NARROW,
    NETWORKS,
    WIDE,
    network_areas,
    network_blocks,
    network_shares,
    on_the_line,
    synthesise_network_block,
    with_width,
    word_width,
)


@pytest.fixture(autouse=True, scope="module")
def _shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODWEAVE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def measured(block: Block) -> Cells:
    """Cells of a block of exactly its own width."""
    from rtl.emit import emit_block
    from synth.cells import synthesise

    hierarchy = Hierarchy(emit_block(block))
    return synthesise(hierarchy[block.module_name], "\n", flow="booth", liberty=load_liberty())


def _read(data: int) -> Block:
    return with_width(ReadButterfly(stages=2, payload=5, data=data, pipeline=1, turnaround=1), data)


@pytest.mark.campaign
@pytest.mark.parametrize("pods", [16, 64])
@pytest.mark.parametrize("network", ["x", "p"])
def test_line_of_real_butterflies(pods: int, network: str) -> None:
    for found in network_blocks(load_config("chip16x32").replace(pods=pods, banks=pods))[network]:
        block = with_width(found.block, 128)
        assert on_the_line(block, measured).area == pytest.approx(measured(block).area, rel=0.01)


def linear(block: Block) -> Cells:
    """A stand-in for synthesis: linear over the width, and impossible for wide words."""
    width = word_width(block)
    assert width <= WIDE
    return Cells(100.0 + 3.0 * width, 10.0 + 2.0 * width, 7 + width)


@pytest.mark.parametrize(
    "block",
    [
        ReadButterfly(stages=3, payload=13, data=256, pipeline=2, turnaround=4),
        WriteButterfly(stages=3, payload=256, pipeline=2),
        ReadCrossbar(ports=8, payload=13, data=256, depth=2, turnaround=4),
        WriteCrossbar(ports=8, payload=256, depth=2),
    ],
    ids=lambda block: block.kind,
)
def test_line_through_two_narrow_blocks(block: Block) -> None:
    asked: list[Block] = []

    def whole(narrow: Block) -> Cells:
        asked.append(narrow)
        return linear(narrow)

    assert on_the_line(block, whole) == Cells(100.0 + 3.0 * 256, 10.0 + 2.0 * 256, 7 + 256)
    assert [word_width(narrow) for narrow in asked] == [NARROW, WIDE]
    assert with_width(asked[0], 256).module_name == block.module_name
    assert {type(narrow) for narrow in asked} == {type(block)}
    assert on_the_line(with_width(block, WIDE), linear) == linear(with_width(block, WIDE))


def _chip(**changes: int | str) -> ChipConfig:
    return load_config("chip2x4").replace(**changes)


@pytest.mark.parametrize("kind", ["butterfly", "crossbar"])
def test_blocks_of_networks_are_those_of_the_chip(kind: str) -> None:
    config = _chip(kind=kind, pods=32, banks=32, planes=2, x_words=512)
    expected: Counter[str] = Counter()
    for blocks in network_blocks(config).values():
        for found in blocks:
            expected[found.block.module_name] += 2 * found.instances
    emitted = emit(config).sidecar["modules"]
    placed = {name: count for name, count in emitted["chip"]["instances"].items() if kind in emitted[name]["kind"]}
    assert placed == expected


def test_areas_of_networks() -> None:
    config = _chip(planes=2, pods=8, banks=8)
    one = {name: sum(b.instances for b in blocks) for name, blocks in network_blocks(config).items()}
    assert one == dict.fromkeys(NETWORKS, 1)
    areas = network_areas(config, lambda block: float(word_width(block)))
    assert areas == {"x": 2 * 32, "w": 2 * 32, "p": 2 * (4 * 32 + 8 + 1), "y": 2 * (32 + 8)}
    shares = network_shares(areas, pods=8, pod_area=50.0, chip_area=1000.0)
    assert shares["x"] == {"area": 64.0, "area_per_pod": 8.0, "share_of_pod": 0.16, "share_of_chip": 0.064}
    assert shares["all"]["area"] == sum(areas.values())
    assert "share_of_chip" not in network_shares(areas, pods=8, pod_area=50.0)["all"]


@pytest.fixture(scope="module")
def chip() -> tuple[ChipConfig, Emitted, dict[str, Any]]:
    # Different depths and shapes, so that no two networks share a block.
    config = _chip(planes=2, x_words=512)
    emitted = emit(config)
    return config, emitted, area_report(emitted)


def test_report_of_a_chip_adds_up(chip: tuple[ChipConfig, Emitted, dict[str, Any]]) -> None:
    config, emitted, report = chip
    blocks, parts = report["blocks"], report["chip"]
    assert blocks["chip"]["area"] == 0
    assert blocks["chip"]["area_with_children"] == pytest.approx(report["total_area"], abs=1)
    assert sum(block["area"] for block in blocks.values()) == pytest.approx(report["total_area"], abs=1)
    assert sum(block["share"] for block in blocks.values()) == pytest.approx(1)

    assert parts["pods"] == config.pods == blocks["pod"]["instances"] == 2
    assert parts["pod_area"] == pytest.approx(blocks["pod"]["area_with_children"])
    assert {block["kind"] for block in blocks.values()} == {*parts["kinds"], "chip"}
    for figure, total in (("area", report["total_area"]), ("sram_bits", report["sram_bits"]), ("share", 1)):
        assert sum(kind[figure] for kind in parts["kinds"].values()) == pytest.approx(total, abs=1)
    for kind in parts["kinds"].values():
        assert kind["area_per_pod"] == pytest.approx(kind["area"] / 2, abs=0.01)
        assert kind["sram_bits_per_pod"] * 2 == kind["sram_bits"]

    networks = parts["networks"]
    assert list(networks) == [*NETWORKS, "all"]
    for name, found in network_blocks(config).items():
        rows = [blocks[b.block.module_name] for b in found]
        assert [row["instances"] for row in rows] == [2 * b.instances for b in found]
        assert networks[name]["area"] == pytest.approx(sum(row["area"] for row in rows), abs=0.1)
        assert networks[name]["area"] > 0
    for key in ("area", "area_per_pod", "share_of_pod", "share_of_chip"):
        assert networks["all"][key] == pytest.approx(sum(networks[name][key] for name in NETWORKS), rel=1e-3)
    in_kinds = sum(kind["area"] for name, kind in parts["kinds"].items() if "butterfly" in name)
    assert networks["all"]["area"] == pytest.approx(in_kinds, abs=0.1)
    assert networks["all"]["share_of_pod"] == pytest.approx(in_kinds / 2 / parts["pod_area"], rel=1e-3)


def test_part_of_a_chip_has_no_networks(chip: tuple[ChipConfig, Emitted, dict[str, Any]]) -> None:
    _, emitted, report = chip
    pod = area_report(emitted, block="pod")
    assert pod["chip"] is None
    assert pod["total_area"] == report["chip"]["pod_area"]
    only = area_report(emitted, block="write_butterfly")
    assert only["total_area"] == pytest.approx(
        sum(row["area_each"] for row in report["blocks"].values() if row["kind"] == "write_butterfly")
    )


def test_table_agrees_with_reports(chip: tuple[ChipConfig, Emitted, dict[str, Any]]) -> None:
    config, _, report = chip
    table = network_table(config, pods=(2,), planes=(1, 2), pipelines=(1,))
    one, two = table["rows"]
    assert (one["pods"], one["planes"], one["pipeline"]) == (2, 1, 1)
    assert two["pod_area"] == report["chip"]["pod_area"]
    for name, row in two["networks"].items():
        assert row["area"] == report["chip"]["networks"][name]["area"]
        assert row["share_of_pod"] == pytest.approx(report["chip"]["networks"][name]["share_of_pod"])
        assert one["networks"][name]["area"] == pytest.approx(row["area"] / 2, abs=0.01)
    assert one["share_of_pod_y_planes"] == pytest.approx(one["networks"]["all"]["share_of_pod"])
    extra = two["networks"]["y"]["share_of_pod"] / 2
    assert two["share_of_pod_y_planes"] == pytest.approx(two["networks"]["all"]["share_of_pod"] / 2 + extra)
    with pytest.raises(ConfigError, match="pod4 has one and no network"):
        network_table(load_config("pod4"))


@pytest.mark.campaign
def test_networks_of_64_pods() -> None:
    rows = network_table(load_config("chip16x32"), pods=(64,), planes=(2,))["rows"]
    shares = [row["networks"]["all"]["share_of_pod"] for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert shares[2] <= 0.20
