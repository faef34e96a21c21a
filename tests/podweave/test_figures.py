"""`podweave area` and `podweave bench`: the keys that other programs rely on, and figures that make sense."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def report_of(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "podweave", *arguments, "--json", "-"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout)


@pytest.mark.campaign
def test_area() -> None:
    report = report_of("area", "pod4")
    assert report["chip"]["kinds"]["accumulator"]["sram_bits"] == 0
    assert report["chip"]["networks"]["all"]["area"] == 0
    assert report["blocks"]["array_group_4x4"]["instances"] == 1
    assert sum(block["share"] for block in report["blocks"].values()) == pytest.approx(1, abs=1e-3)
    # Sixteen multipliers in one group: less than the bare MAC each, more than a group of 16 x 16.
    assert 0.7 < report["array_area_per_mac_vs_bare_mac"] < 1
    assert report["pod_overhead"] > 0.5


@pytest.mark.more
def test_area_of_one_block() -> None:
    report = report_of("area", "pod4", "--block", "load_engine")
    assert list(report["blocks"]) == ["load_engine"]
    assert report["array_area_per_mac_vs_bare_mac"] is None
    assert report["pod_overhead"] is None


@pytest.mark.more
def test_bench_start() -> None:
    rows = report_of("bench", "start", "--repeat", "1")["benches"]["start"]
    assert [row["command"].split()[0] for row in rows] == ["--help", "presets", "model"]
    assert all(row["start_s"] > 0 for row in rows)


@pytest.mark.more
def test_bench_emit() -> None:
    report = report_of("bench", "emit", "--repeat", "1")
    rows = report["benches"]["emit"]
    assert [row["preset"] for row in rows] == ["pod4", "pod16", "pod32"]
    assert all(row["emit_s"] > 0 for row in rows)
    # Independent of rows and columns, but for memories that happen to be alike.
    counts = [row["modules"] for row in rows]
    assert max(counts) - min(counts) <= 2


def test_a_picture_shows_one_layer() -> None:
    options = ["--config", "pod32", "--layers-alone", "--plot", "build/x.svg"]
    command = [sys.executable, "-m", "podweave", "model", "resnet50_224", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "a picture shows one network, or one layer" in done.stderr
