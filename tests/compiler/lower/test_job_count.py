"""compiler.lower.job_count: close to what is compiled, and a refusal of what no machine could hold."""

import pytest

from podweave.compiler.chip.epoch_scheduler import compile_graph
from podweave.compiler.lower.job_count import MAX_JOBS, job_count, require_jobs_fit
from podweave.ir.layers import WorkloadError, parse_workload
from podweave.runs.jobs import layer_graph
from podweave.spec.presets import load_config


@pytest.mark.parametrize("config", ["pod4", "pod16"])
@pytest.mark.parametrize(
    "text",
    [
        "gemm:500x33x70",
        "gemm:1x64x64",
        "conv:20x20x8x24,kernel=3x3,padding=same",
        "conv:20x20x3x24,kernel=7x7,stride=2",
        "conv:9x9x32x32,kernel=3x3,groups=depthwise",
        "conv:9x9x32x64,kernel=1,groups=4,batch=3",
    ],
)
def test_count_is_close_to_the_jobs_of_the_program(config: str, text: str) -> None:
    ample = dict.fromkeys(("x_words", "w_words", "p_words", "stream_jobs", "load_jobs", "post_jobs"), 1 << 17)
    layer, chosen = parse_workload(text), load_config(config).replace(**ample, parameter_sets=1024)
    made = len(compile_graph(layer_graph(layer), chosen, partition=0).tile_by_tile().streams["start"])
    assert made / 2.5 <= job_count(layer, chosen) <= 1.5 * made


@pytest.mark.parametrize("text", ["gemm:65536x65536x64", "conv:64x64x1048576x1048576,kernel=3,groups=depthwise"])
def test_what_no_machine_could_hold_is_refused_at_once(text: str) -> None:
    layer = parse_workload(text)
    with pytest.raises(
        WorkloadError, match=rf"^{text}: pod4 takes about [\d,]+ jobs for it, more than the {MAX_JOBS:,} that a program"
    ):
        require_jobs_fit(layer, load_config("pod4"))
    require_jobs_fit(parse_workload("gemm:4096x8192x28672"), load_config("pod32"))
