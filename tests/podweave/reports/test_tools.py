"""podweave.reports of benchmarks, area, proofs and fuzzing: the lines of small reports, whatever they have and leave out."""

from __future__ import annotations

from typing import Any

import pytest

from podweave.reports.area import print_area, print_network_table
from podweave.reports.formal import print_proofs, proofs_page
from podweave.reports.fuzz import print_campaign, print_replay
from podweave.reports.tables import print_bench
from tests.podweave.reports.printed import lines_of


def test_a_benchmark_has_a_row_per_figure_and_a_column_per_preset() -> None:
    rows = [{"preset": "chip16x32", "emit_s": 0.126, "modules": 7}, {"preset": "pod16", "emit_s": 1234.5, "modules": 12000}]
    assert lines_of(print_bench, {"repeat": 3, "benches": {"emit": rows}}) == [
        "emit (medians of 3)",
        "chip16x32 pod16",
        "emit_s 0.13 1,234",
        "modules 7 12000",
    ]


def test_a_benchmark_with_tables_of_its_own() -> None:
    """Its single figures are a line, columns whose names begin with ``share`` per cents, and a table without rows is none."""
    widths = [{"data_width": 64, "share": 0.98765, "cycles": 8200}]
    found = lines_of(print_bench, {"repeat": 3, "benches": {"bus": {"latency": 100, "widths": widths, "words": []}}})
    assert found == ["bus: latency 100", "widths", "data_width share cycles", "64 98.8% 8200"]


BLOCK = {"instances": 2, "area_each": 1234.4, "area": 2468.8, "share": 0.75, "sequential_share": 0.125, "sram_bits": 0}
AREA: dict[str, Any] = {
    **{"config": "chip2x4", "library": "gates", "unit": "gate equivalents", "flow_name": "flat", "sram_bits": 4096},
    "blocks": {"pod": BLOCK, "bank": {**BLOCK, "instances": 4, "sram_bits": 4096}},
    **{"array_area_per_mac_vs_bare_mac": None, "pod_overhead": None, "chip": None},
}
CHIP: dict[str, Any] = {
    "kinds": {
        "write butterfly of Y": {
            "instances": 1,
            "area": 100.0,
            "area_per_pod": 50.0,
            "share": 0.25,
            "sram_bits": 0,
            "sram_bits_per_pod": 0.0,
        },
        "pod": {"instances": 2, "area": 300.0, "area_per_pod": 150.0, "share": 0.75, "sram_bits": 10, "sram_bits_per_pod": 5.0},
    },
    "networks": {"x": {"area": 123456789.0, "area_per_pod": 50.0, "share_of_pod": 1 / 3, "share_of_chip": 0.25}},
    **{"pods": 2, "pod_area": 150.0},
}


def test_area_of_blocks() -> None:
    found = [
        "chip2x4, gates (gate equivalents), flow flat",
        "block count area each area share registers SRAM bits",
        "pod 2 1,234 2,469 75.0% 12.5%",
        "bank 4 1,234 2,469 75.0% 12.5% 4,096",
        "SRAM, not in the area: 4,096 bits",
    ]
    assert lines_of(print_area, AREA) == found
    more = {**AREA, "array_area_per_mac_vs_bare_mac": 1.0625, "bare_mac_area": 1000.0, "pod_overhead": 0.5, "chip": CHIP}
    assert lines_of(print_area, more) == [
        *found,
        "array area per multiplier: 1.062 of a bare registered MAC (1,000)",
        "pod around the array: 50.0% of the array, without SRAM",
        # The largest first.
        "by kind of block",
        "kind count area per pod share SRAM bits per pod",
        "pod 2 300 150 75.0% 5.0",
        "write butterfly of Y 1 100 50 25.0%",
        "networks, all planes; one of the 2 pods has 150",
        "network area per pod of a pod of the chip",
        "X 123,456,789 50 33.3% 25.0%",
    ]


def test_networks_of_larger_chips() -> None:
    networks = {
        name: {"share_of_pod": share} for name, share in zip(("x", "w", "p", "y", "all"), (0.1, 0.2, 0.3, 0.4, 1.0), strict=True)
    }
    row = {"pods": 16, "y_planes": 2, "pipeline": 1, "pod_area": 1500.0, "networks": networks}
    report = {"config": "chip16x32", "library": "gates", "unit": "gate equivalents", "flow_name": "flat", "rows": [row]}
    assert lines_of(print_network_table, report) == [
        "chip16x32, gates (gate equivalents), flow flat",
        "pods Y planes stages pod area X W P Y all",
        "16 2 1 1,500 10.0% 20.0% 30.0% 40.0% 100.0%",
        "networks, all planes, as shares of pod area, without SRAM; stages: of switches between registers",
    ]


PROVEN = {
    **{"name": "word_queue", "rule": "in order", "sizes": "4 words", "kind": "unbounded", "engine": "pdr", "seconds": 1.25},
    **{"covers": 3, "covers_missed": 1, "verdict": "pass", "faults": [{"fault": "a pop too many", "found": True}]},
}
MISSED = {**PROVEN, "name": "credits", "faults": [*PROVEN["faults"], {"fault": "a credit too many", "found": False}]}  # type: ignore[misc]
EQUAL = {
    **{"name": "feeder as cells", "block": "feeder", "flow": "flat", "compared": 9, "unproven": 2, "seconds": 0.5},
    "verdict": "fail",
}
TOTALS: dict[str, Any] = {
    **{"verdict": "fail", "unbounded": 2, "bounded": 0, "equivalent": 0, "faults": 4, "faults_found": 2},
    **{"seconds": 3.2, "processor_seconds": 6.4},
}


def test_proofs() -> None:
    report = {
        **TOTALS,
        "properties": [PROVEN, MISSED],
        "equivalences": [{**EQUAL, "faults": [{"fault": "an inverter", "found": False}]}],
    }
    assert lines_of(print_proofs, report) == [
        "property kind engine seconds covers planted faults found verdict",
        "word_queue unbounded pdr 1.2 2 of 3 1 of 1 pass",
        "credits unbounded pdr 1.2 2 of 3 1 of 2 pass",
        "emitted and synthesised",
        "block flow registers and outputs seconds verdict",
        "feeder flat 7 of 9 0.5 fail",
        "credits did not find a planted fault: a credit too many",
        "feeder as cells did not find a planted fault: an inverter",
        "FAIL: 2 properties proven for any time, 0 for a stated one; 0 blocks equivalent; 2 of 4 planted faults found; "
        "3 s (6 of processors)",
    ]
    assert lines_of(print_proofs, {**report, "equivalences": []})[3].startswith("credits did not find")


def test_the_page_of_proofs() -> None:
    report = {"properties": [MISSED], "equivalences": [{**EQUAL, "faults": [{"found": found}]} for found in (True, False)]}
    assert proofs_page(report).splitlines() == [
        "| property | rule | sizes | kind | engine | seconds | planted faults found |",
        "|---|---|---|---|---|---|---|",
        "| `credits` | in order | 4 words | unbounded | pdr | 1 | 1 of 2 |",
        "",
        "| block | registers and outputs equal | seconds | planted fault told apart |",
        "|---|---|---|---|",
        "| `feeder as cells` | 7 of 9 | 0 | yes |",
        "| `feeder as cells` | 7 of 9 | 0 | no |",
    ]


COUNTED = {"cases": 1200, "refused": 1, "fail": 2, "hangs": 0, "networks": 9, "jobs": 8, "transfers": 7, "cycles": 6}
CAMPAIGN: dict[str, Any] = {
    "kinds": {"chip": {**COUNTED, "compared": 5, "configurations": 0, "seconds": 1.6, "jobs_per_s": 9.4}},
    **{"seed": 3, "new_cases": 4, "seconds": 60.4, "processes": 2, "folder": "found", "failures": [], "verdict": "pass"},
}
CAMPAIGN_TABLE = [
    "seed 3, 4 new cases in 60 s on 2 processes",
    "kind cases refused fail hangs networks jobs transfers cycles compared configurations s jobs and transfers/s",
    "chip 1,200 1 2 0 9 8 7 6 5 0 2 9",
]
FAILURE = {"kind": "chip", "index": 7, "sentence": "y differs", "decisions": 30, "decisions_left": 4, "file": "failing-chip-7.json"}


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, ["verdict: pass (nothing differs; folder found)"]),
        ({"verdict": "none"}, ["no verdict: nothing ran"]),
        (
            {"verdict": "fail", "failures": [FAILURE, {**FAILURE, "index": 8, "decisions_left": None, "file": None}]},
            [
                "chip 7: y differs (30 decisions, 4 left; failing-chip-7.json)",
                "chip 8: y differs (30 decisions; no file: it cannot be made small)",
                "verdict: fail (2 cases; podweave fuzz --replay FILE runs one again)",
            ],
        ),
    ],
)
def test_a_campaign(changes: dict[str, Any], lines: list[str]) -> None:
    assert lines_of(print_campaign, {**CAMPAIGN, **changes}) == [*CAMPAIGN_TABLE, *lines]


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"verdict": "pass"}, ["verdict: pass (nothing differs now)"]),
        ({"verdict": "fail", "same": True}, ["verdict: fail, as before: y is 4"]),
        ({"verdict": "fail", "same": False}, ["verdict: fail, in another way: y is 4"]),
        ({"verdict": "none"}, ["no verdict: y is 4"]),
        ({"verdict": "none", "sentence": ""}, ["no verdict: nothing ran"]),
        (
            {"verdict": "pass", "same_sources": False},
            ["sources have changed since: what the file decides may be another case", "verdict: pass (nothing differs now)"],
        ),
    ],
)
def test_a_case_run_again(changes: dict[str, Any], lines: list[str]) -> None:
    report = {"text": ["config = chip2x4", "Graph()"], "before": "y differs", "same_sources": True, "sentence": "y is 4", **changes}
    assert lines_of(print_replay, report) == ["config = chip2x4", "Graph()", "before: y differs", *lines]
