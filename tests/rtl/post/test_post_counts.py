"""The post-processor in lockstep with its cycle model on jobs that are long: every bit of each of their counts."""

from __future__ import annotations

import numpy as np
import pytest

from tests.rtl.post.post_stimulus import CONFIGS, PROLOGUE, base_job, check, geometry_of, post_stimulus

pytestmark = pytest.mark.more

KEY = "4x12_lanes2_zero"
CYCLES = 4090


def test_each_bit_of_a_count() -> None:
    """One less, a count that lost its highest bit would be 1. Loops 2 and 3, then loops 0 and 1, in an epoch of their own; a loop
    is walked twice, loop 2 only when it is longest."""
    config = CONFIGS[KEY]
    g = geometry_of(config)
    stimulus = post_stimulus(np.random.default_rng(12), config, CYCLES)
    stimulus.jobs, stimulus.job_cycles = [], []
    half = (PROLOGUE + CYCLES) // 2
    long, window = config.pod.count_width, config.post.window_width if config.post else 0
    for loops, width, first, earliest in (((2, 3), long, PROLOGUE, 0), ((0, 1), window, half + 6, half)):
        start, begins = 5, []
        for loop in loops:
            for bit in range(1, width):
                count, job = (1 << bit) + 2, {"start": start, "slice": bit % 3, "x_base": 7, "p_base": 9}
                twice = 1 + (loop < 2 or bit == width - 1)
                if loop == 3:
                    # There and back again in each row of two, so that a walk of any length stays inside.
                    job |= {"n2": 2, "p_step2": 1, "p_step3": -1, "x_step2": 1, "x_step3": -1}
                else:
                    job |= {f"n{loop + 1}": twice}
                stimulus.jobs.append(base_job(KEY, **job, **{f"n{loop}": count}))
                stimulus.job_cycles.append(max(earliest + len(begins), begins[-3] + 1 if len(begins) > 2 else 0))
                begins.append(first + start)
                windows = [2 * count + g.beats - 1, 2 * (count + g.beats - 1), twice * count * g.beats, 2 * count * g.beats]
                start += windows[loop]
        assert first + start + g.latency < (half - 8 if first == PROLOGUE else CYCLES)
    model, expected = check(KEY, stimulus, seed=3)
    assert model.first_error is None, model.events
    assert len(model.service.job) == len(stimulus.jobs) == 2 * (long - 1 + window - 1)
    words = 3 * sum((1 << bit) + 2 for bit in range(1, long)) + (1 << long - 1) + 2 + 3 * (window - 1)
    assert expected["y_valid"].value.sum() == words
