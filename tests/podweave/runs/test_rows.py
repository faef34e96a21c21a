"""podweave.runs.accelerator on graphs of rows: bit-exact, in exactly the predicted cycles."""

from __future__ import annotations

import numpy as np

from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.jobs import chip_jobs
from podweave.runs.road import Simulation, run_jobs
from tests.podweave.runs.row_jobs import attention_job, small_chip

# Rows, heads, heads of keys, size of a head, keys: tiles that are full and that are not, more and fewer of them than nodes.
ATTENTION = [
    (1, 1, 1, 4, 5),
    (1, 2, 1, 4, 1),
    (2, 4, 2, 8, 9),
    (3, 4, 2, 6, 17),
    (2, 2, 2, 4, 33),
    (8, 2, 1, 12, 20),
    (16, 1, 1, 4, 16),
]


def test_attention() -> None:
    rng = np.random.default_rng(1)
    jobs = [attention_job(*sizes, rng.integers(1, sizes[4] + 1, sizes[0]), seed) for seed, sizes in enumerate(ATTENTION)]
    report, _, _ = run_jobs(jobs, AcceleratorWay(small_chip()), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", [row.get("first_mismatch") for row in report["networks"]]
    assert report["cycles"] == report["predicted_cycles"]
    assert all(row["compared"] == sizes[0] * sizes[1] * sizes[3] for row, sizes in zip(report["networks"], ATTENTION, strict=True))


# Channels that fill tiles and that do not, more rows than registers, several epochs.
PARTS = (
    "norm_16",
    "norm_22,rows=3",
    "gated_16_24",
    "gated_20_44,rows=5",
    "gated_18_30,rows=20",
    "attention_4_2_6,rows=3,context=17",
)


def test_norms_and_feed_forward_layers_by_name() -> None:
    jobs = [job for name in PARTS for job in chip_jobs(name, 3)]
    report, _, _ = run_jobs(jobs, AcceleratorWay(small_chip()), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", (report["failure"], [row.get("first_mismatch") for row in report["networks"]])
    assert report["cycles"] == report["predicted_cycles"]
    assert max(row["epochs"] for row in report["networks"]) > 1
