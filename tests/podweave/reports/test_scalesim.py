"""podweave.reports.scalesim: SCALE-Sim's three files, their columns, and what is left empty."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from podweave.spec.presets import load_config
from tests.podweave.command_line import Cli, assert_refused

COMPUTE = "LayerID, Total Cycles, Stall Cycles, Overall Util %, Mapping Efficiency %, Compute Util %,"
BANDWIDTH = (
    "LayerID, Avg IFMAP SRAM BW, Avg FILTER SRAM BW, Avg OFMAP SRAM BW, Avg IFMAP DRAM BW, Avg FILTER DRAM BW, Avg OFMAP DRAM BW,"
)
DETAILS = (
    "LayerID, SRAM IFMAP Start Cycle, SRAM IFMAP Stop Cycle, SRAM IFMAP Reads, "
    "SRAM Filter Start Cycle, SRAM Filter Stop Cycle, SRAM Filter Reads, "
    "SRAM OFMAP Start Cycle, SRAM OFMAP Stop Cycle, SRAM OFMAP Writes, "
    "DRAM IFMAP Start Cycle, DRAM IFMAP Stop Cycle, DRAM IFMAP Reads, "
    "DRAM Filter Start Cycle, DRAM Filter Stop Cycle, DRAM Filter Reads, "
    "DRAM OFMAP Start Cycle, DRAM OFMAP Stop Cycle, DRAM OFMAP Writes,"
)


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    path = tmp_path / "chain.csv"
    path.write_text("layer,M,K,N\nfirst,36,5,8\nsecond,36,8,12\nthird,36,12,4\n")
    return path


def read(folder: Path, name: str, header: str) -> list[dict[str, str]]:
    """The rows of a file; headers and ends of lines are SCALE-Sim's to the letter."""
    lines = (folder / f"{name}.csv").read_text().splitlines()
    assert lines[0] == header
    assert all(line.endswith(",") for line in lines)
    rows = list(csv.DictReader(lines, skipinitialspace=True))
    assert [row["LayerID"] for row in rows] == [str(number) for number in range(len(rows))]
    return rows


def read_all(folder: Path) -> tuple[list[dict[str, str]], ...]:
    return tuple(
        read(folder, name, header)
        for name, header in (("COMPUTE_REPORT", COMPUTE), ("BANDWIDTH_REPORT", BANDWIDTH), ("DETAILED_ACCESS_REPORT", DETAILS))
    )


def empty(rows: list[dict[str, str]]) -> set[str]:
    return {column for column in rows[0] if column and all(row[column] == "" for row in rows)}


def test_one_pod(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "reports"
    cli("model", "gemm:256x256x256", "--config", "pod16", "--layers-alone", "--scalesim-reports", folder)
    (compute,), (bandwidth,), (details,) = read_all(folder)
    assert (compute["Total Cycles"], compute["Stall Cycles"]) == ("65556", "0")
    assert float(compute["Overall Util %"]) == float(compute["Compute Util %"]) == pytest.approx(100 * 256**3 / 65556 / 256)
    assert float(compute["Mapping Efficiency %"]) == 100
    # All activations for each of 16 column tiles, all weights for each of its patches, all sums once.
    moved = (("IFMAP", "Reads", 16 * 65536), ("OFMAP", "Writes", 65536))
    for operand, what, numbers in moved:
        assert details[f"SRAM {operand} {what}"] == str(numbers)
        assert float(bandwidth[f"Avg {operand.upper()} SRAM BW"]) == numbers / 65556
    assert int(details["SRAM Filter Reads"]) % 65536 == 0
    assert (details["SRAM Filter Start Cycle"], details["SRAM IFMAP Start Cycle"]) == ("0", "16")
    assert details["SRAM OFMAP Stop Cycle"] == "65555"
    assert {column for column in (*bandwidth, *details) if "DRAM" in column} == empty([bandwidth]) | empty([details])


def test_lanes_that_are_not_used_lower_the_mapping(cli: Cli, tmp_path: Path) -> None:
    cli("model", "gemm:16x5x7", "--config", "pod4", "--layers-alone", "--scalesim-reports", tmp_path)
    (compute,), _, _ = read_all(tmp_path)
    assert float(compute["Mapping Efficiency %"]) == pytest.approx(100 * 5 * 7 / (4 * 16))


@pytest.mark.parametrize("options", [["--per-layer"], ["--through", "backdoor"]])
def test_chip(cli: Cli, tmp_path: Path, chain: Path, options: list[str]) -> None:
    report = cli("model", chain, "--config", "chip2x4", *options, "--scalesim-reports", tmp_path, "--json", "-").report
    rows = [row for network in report["networks"] for row in network["layers"]]
    compute, bandwidth, details = read_all(tmp_path)
    assert [int(line["Total Cycles"]) for line in compute] == [row["cycles"] for row in rows]
    for line, detail, row in zip(compute, details, rows, strict=True):
        assert float(line["Overall Util %"]) == pytest.approx(100 * row["macs"] / row["cycles"] / 32)
        assert float(line["Compute Util %"]) == pytest.approx(100 * row["macs"] / row["cycles"] / 16 / row["pods"])
        assert float(line["Mapping Efficiency %"]) == pytest.approx(100 * row["utilization"])
        assert (int(detail["SRAM Filter Start Cycle"]), int(detail["SRAM OFMAP Stop Cycle"])) == (row["first"], row["last"])
        # Every pod that multiplies by a column tile requests the activations itself.
        assert int(detail["SRAM IFMAP Reads"]) == row["M"] * row["K"] * -(-row["N"] // 4)
        assert int(detail["SRAM OFMAP Writes"]) >= row["M"] * row["N"]
    assert empty(bandwidth) == {column for column in bandwidth[0] if "DRAM" in column}
    assert empty(details) == {column for column in details[0] if "DRAM" in column}


def test_over_axi_a_line_is_an_epoch(cli: Cli, tmp_path: Path, chain: Path) -> None:
    report = cli("model", chain, "--config", "chip2x4", "--scalesim-reports", tmp_path, "--json", "-").report
    (network,) = report["networks"]
    compute, bandwidth, details = read_all(tmp_path)
    assert len(compute) == network["epochs"] > 1
    assert sum(int(line["Total Cycles"]) for line in compute) == network["timeline"][-1]["ends"] + 1
    assert [int(line["Stall Cycles"]) for line in compute] == [epoch["waits"] for epoch in network["timeline"]]
    macs = [float(line["Overall Util %"]) * int(line["Total Cycles"]) * 32 / 100 for line in compute]
    assert sum(macs) == pytest.approx(network["macs"])
    assert empty(compute) == {"Mapping Efficiency %"}
    assert len(empty(bandwidth)) == 6
    assert len(empty(details)) == 18


@pytest.mark.campaign
def test_run_writes_them_too(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", "gemm:5x6x7", "--config", "pod4", "--layers-alone", "--scalesim-reports", tmp_path)
    assert done.code == 0
    assert read_all(tmp_path)[0][0]["Total Cycles"] == "28"


def test_a_file_in_the_way_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert load_config("pod4").pods == 1
    assert_refused(cli("model", "gemm:5x6x7", "--config", "pod4", "--scalesim-reports", tmp_path / "file"), "File exists")
