"""podweave.runs.accelerator on decoder layers and encoders of some size: one row and several, all contexts around the edges of
tiles; prefill."""

from __future__ import annotations

import pytest

from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.jobs import chip_jobs
from podweave.runs.road import Simulation, run_jobs
from podweave.spec.presets import load_config
from tests.podweave.runs.row_jobs import small_chip
from tests.podweave.runs.test_rows import grow

ROWS = {"row_registers": 512, "sum_bits": 33, "tables": 4, "column_words": 16, "parameter_sets": 256}
DECODE = [(rows, context) for rows in (1, 4) for context in (1, 31, 32, 33, 500) if context >= rows]
PREFILL = [(rows, rows) for rows in (32, 96, 128)]


@pytest.mark.campaign
@pytest.mark.parametrize("preset", ["chip4x16", "chip16x32", "llm8x16", "llm16x32"])
def test_decoder_layers(preset: str) -> None:
    config = load_config(preset)
    if not config.has_rows:
        config = config.replace(name=f"rows_{preset}", **ROWS)
    names = [f"llama_256_8_4_688,rows={rows},context={context}" for rows, context in DECODE + PREFILL]
    jobs = [job for name in names for job in chip_jobs(name, 1, scale_bits=config.scale_bits)]
    report, _, _ = run_jobs(jobs, AcceleratorWay(config), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", (report["failure"], [row.get("first_mismatch") for row in report["networks"]])
    assert report["cycles"] == report["predicted_cycles"]


@pytest.mark.campaign
def test_a_layer_of_a_real_shape() -> None:
    """SmolLM2-135M."""
    config, names = load_config("llm8x16"), ("llama_576_9_3_1536,context=512", "llama_576_9_3_1536,rows=128")
    jobs = [job for name in names for job in chip_jobs(name, 1, scale_bits=config.scale_bits)]
    report, _, _ = run_jobs(jobs, AcceleratorWay(config), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", (report["failure"], [row.get("first_mismatch") for row in report["networks"]])


@pytest.mark.campaign
def test_encoders_of_bert() -> None:
    """Whole, and a layer of BERT base."""
    names = [f"bert_tiny,rows={rows}" for rows in (1, 16, 31, 33, 128)] + ["bert_mini,rows=16", "encoder_768_12_3072,rows=16"]
    config = load_config("llm8x16")
    jobs = [job for name in names for job in chip_jobs(name, 1, scale_bits=config.scale_bits)]
    report, _, _ = run_jobs(jobs, AcceleratorWay(config), Simulation(), lambda _: None)
    assert report["verdict"] == "pass", (report["failure"], [row.get("first_mismatch") for row in report["networks"]])
    assert report["cycles"] == report["predicted_cycles"]


@pytest.mark.campaign
def test_a_cache_grows_over_forty_tokens() -> None:
    grow(small_chip(), 40)
