"""podweave.reports of runs and of networks of files: results that are wrong, numbers that are not the file's."""

from __future__ import annotations

from typing import Any

import pytest

from podweave.reports.accelerator import print_device_run
from podweave.reports.chat import print_chat
from podweave.reports.chip import print_chip_run
from podweave.reports.model_files import print_comparison
from tests.podweave.reports.printed import lines_of

NOTHING: dict[str, Any] = {"numbers": [], "on_host": []}
LAYER = {
    "operation": "features.denseblock1.denselayer1.conv1",
    "operator": "QLinearConv",
    "values": 1200,
    "differing": 3,
    "ties": 2,
    "within": 1,
    "largest": 1,
}
ORACLE = {
    **{"onnxruntime": "1.20.0", "optimisation": "no graph optimisation"},
    "layers": [{**LAYER, "sqnr_db": 61.26}, {**LAYER, "operation": "add", "sqnr_db": None}],
    "outputs": [
        {"output": "y", "differing": 3, "values": 1000, "largest": 2},
        {"output": "z", "differing": 0, "values": 1000, "largest": 0, "same_top": 4, "images": 4},
    ],
}
TEXTS = {"positions": 5000, "same_positions": 4900, "same_text": 1}


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        ({"numbers": ["zero points"]}, ["numbers are not those of the file: zero points"]),
        (
            {"on_host": ["Softmax end", "QuantizeLinear q"]},
            ["left to the host, behind the network: Softmax end"],
        ),
        ({"on_host": ["QuantizeLinear q"]}, ["left to the host, behind the network: QuantizeLinear q"]),
        (
            {"agreement": [{"output": "y", "same_top": 3, "images": 4, "cosine": 0.99}, {"output": "z", "right": 2, "images": 4}]},
            ["output y: same largest as in floating point in 3 of 4, cosine 0.99000", "output z: 2 of 4 right"],
        ),
        (
            {"agreement": [{"output": "y", "same_top": 3, "images": 4, "cosine": None, "right": 2, "right_float": 3, **TEXTS}]},
            [
                "output y: same largest as in floating point at 4,900 of 5,000 positions, at all of them in 3 of 4, "
                "the same text in 1 of 4, all 0; 2 of 4 right (3 in floating point)"
            ],
        ),
        (
            {"onnxruntime": ORACLE},
            [
                "onnxruntime 1.20.0, no graph optimisation: each layer on what onnxruntime has in front of it",
                "operation operator values differing of them ties within bounds largest SQNR dB",
                "features.denseblock1.denselayer1.conv1 QLinearConv 1,200 3 2 1 1 61.3",
                "add QLinearConv 1,200 3 2 1 1 equal",
                "output y of the whole network: 3 of 1,000 differ, by up to 2 steps",
                "output z of the whole network: 0 of 1,000 differ, by up to 0 steps; same largest in 4 of 4",
            ],
        ),
    ],
)
def test_a_file_beside_onnxruntime(changes: dict[str, Any], lines: list[str]) -> None:
    assert lines_of(print_comparison, {**NOTHING, **changes}) == lines


RUN: dict[str, Any] = {
    **{"config": "chip2x4", "seed": 5, "networks": [], "pods": 2, "checked": True, "wall_s": {"build": 1.0}, "left_out": ""},
    **{"macs": 640, "cycles": 100, "predicted_cycles": 98, "utilization": 0.2, "mismatches": 4, "sim_cycles_per_s": 1500.0},
    **{"verdict": "fail", "failure": None},
}
CHIP_LAYER = {"layer": "conv1", "M": 4, "K": 5, "N": 6, "first": 0, "last": 99, "cycles": 100, "pods": 2, "utilization": 0.2}
EPOCH = {
    **{
        "network": "tiny",
        "layers": [{**CHIP_LAYER, "mismatches": 4}],
        "busy": 0.5,
        "cycles": 50,
        "sums_cycles": 40,
        "compared": 24,
    },
    **{"merged_words": {"x": 3, "w": 2}, "first_mismatch": None, "errors": [], "counters_differing": []},
}
WRONG = {
    **EPOCH,
    "first_mismatch": "y[0, 3] is 4, not 5",
    "errors": ["pod 1: OVERFLOW"],
    "counters_differing": ["CYCLES", "P_READS"],
}
COLUMNS = "layer MxKxN first last cycles pods lanes used wrong"
ROW = "conv1 4x5x6 0 99 100 2 20.0% 4"
ENDED = ["programs: held against the rules of the hardware", "wall seconds: build 1.00"]
TOTAL = [
    "640 MAC in 100 cycles on 2 pods: 6.4 MAC/cycle, utilisation 20.00%",
    "from the first word requested to the last sum written: 80 cycles",
    "pods stream in 50.0% of their cycles; words served by multicast: X 6, W 4",
    "cycles: 100 in RTL, 98 predicted, difference 2",
    "48 accumulators and outputs compared, 4 wrong; counters of all nodes compared",
    "simulation: 1.5 k cycles/s",
]


def test_a_run_of_a_chip_that_is_wrong() -> None:
    report = {**RUN, "networks": [EPOCH, WRONG]}
    verdict = "verdict: fail (NOT exact; config chip2x4, seed 5)"
    wrong = [
        "tiny: y[0, 3] is 4, not 5",
        "tiny: pod 1: OVERFLOW",
        "tiny: counters other than predicted: CYCLES, P_READS",
    ]
    assert lines_of(print_chip_run, report) == [COLUMNS, ROW, ROW, *wrong, *TOTAL, *ENDED, verdict]
    fewer = lines_of(print_chip_run, report, tables=1)
    assert fewer == [COLUMNS, ROW, "2 epochs of the same program, with other data", *wrong, *TOTAL, *ENDED, verdict]


def test_a_run_of_a_chip_without_verdict() -> None:
    report = {**RUN, "verdict": "none", "failure": "it did not end:\nall pods wait", "checked": False}
    assert lines_of(print_chip_run, report) == [
        "it did not end:",
        "all pods wait",
        "programs: not held against (--check rules does) the rules of the hardware",
        "wall seconds: build 1.00",
        "no verdict: it did not end (config chip2x4, seed 5)",
    ]


def test_a_run_over_axi_without_verdict() -> None:
    found = lines_of(print_device_run, {**RUN, "verdict": "none", "failure": "it did not end"})
    assert found == ["it did not end", *ENDED, "no verdict: it did not end (config chip2x4, seed 5, over AXI)"]


DEVICE_ROW: dict[str, Any] = {
    **{"network": "tiny", "macs": 640, "cycles": 100, "utilization": 0.2, "epochs": 101, "compute_cycles": 90, "hbm_cycles": 80},
    **{"overlap": 0.9, "bytes_loaded": 4096, "hbm_used": 0.5, "hbm_used_available": 0.6, "memory_useful": 0.4},
    **{"prefetch_hits": 7, "prefetch_late": 1, "compared": 24, "first_mismatch": None, "counters_differing": []},
    **{"timeline": [{}] * 101, "cycles_by_kind": {"weights": 75, "memory": 25}},
}


def test_a_run_over_axi_of_many_epochs_and_images() -> None:
    images = {"images": 500, "passes": 5, "batch": 100, "image_cycles": 20.0, "image_bound": 10.0}
    report = {
        **RUN,
        "networks": [{**DEVICE_ROW, **images}, {**DEVICE_ROW, **images}],
        "prefetch": False,
        "prefetch_ratios": {"*": 0.5},
    }
    assert lines_of(print_device_run, report) == [
        "101 epochs, too many for a table: --json has them",
        "2 runs of the same program, with other data",
        "tiny: 640 MAC in 100 cycles on 2 pods, utilisation 20.00%; 101 epochs",
        "epochs take 90 cycles, the beats of the busiest manager 80; together 0.900 of the longer",
        "4,096 bytes loaded; data buses busy in 50.0% of the cycles, 60.0% of what the memory can send, weights are 40.0%; "
        "prefetch off (ratios *=0.5): 7 epochs found their words, 1 waited",
        "500 images in 5 passes of 100: 20 cycles each, 2.000 of the longer of epochs and beats of one alone (10)",
        "cycles by kind cycles share",
        "weights 75 75.0% pods load tiles of weights, and stream through them",
        "memory 25 25.0% no epoch is on: the next one waits for its words",
        "cycles from start to interrupt: 100 in RTL, 98 predicted, difference 2",
        "48 outputs compared, 4 wrong; counters of engines and nodes compared",
        "simulation: 1.5 k cycles/s",
        # Cycles by kind are of row graphs, of which programs are not held against rules.
        "wall seconds: build 1.00",
        "verdict: fail (NOT exact; config chip2x4, seed 5, over AXI)",
    ]


STEP: dict[str, Any] = {
    **{"rows": 1, "predicted_cycles": 1000, "cycles": 1001, "collectives": None, "memory_useful": 0.9, "busy": 0.5, "wall_s": 0.25},
    **{"logits": True, "count": 1, "mismatches": 2, "compared": 10, "texts": [{"text": 0, "position": 7, "count": 1}]},
}
CHAT: dict[str, Any] = {
    **{"model": "nano", "config": "llm8x16", "chips": 1, "seed": 0, "prompt_tokens": [1, 2], "answer_tokens": [3], "ended": True},
    **{"way": "rtl", "steps": [STEP], "caches_differing": 3, "verdict": "fail"},
}
ASKED = "nano on llm8x16: 2 tokens asked, 1 answered, where the text ends"
CYCLES = (
    "cycles: {} predicted, 1,000 for a token, in which weights, keys and values, each once, are 90.0% of what the memory can send"
)


def test_an_answer_in_rtl_that_is_wrong() -> None:
    assert lines_of(print_chat, CHAT) == [
        ASKED,
        "tokens rows cycles predicted memory useful pods busy seconds",
        "7 1 1,001 1,000 90.0% 50.0% 0.2",
        CYCLES.format("1,000"),
        "in RTL: 1,001 cycles, difference 1; 10 logits and residuals compared, 2 wrong; 3 of keys and values wrong",
        "verdict: fail (NOT exact; config llm8x16, seed 0, over AXI)",
    ]


def test_an_answer_of_the_golden_model_has_no_cycles() -> None:
    assert lines_of(print_chat, {**CHAT, "way": "golden"}) == [ASKED]


def test_a_long_answer_on_a_ring_has_no_table() -> None:
    steps = [{**STEP, "collectives": 0.25}] * 61
    assert lines_of(print_chat, {**CHAT, "way": "model", "chips": 2, "steps": steps, "ended": False}) == [
        "nano on 2 chips of llm8x16: 2 tokens asked, 1 answered",
        "cycles are those of the slowest chip, of which 25.0% are collectives for a token",
        CYCLES.format("61,000"),
    ]
