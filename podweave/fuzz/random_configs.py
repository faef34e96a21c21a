"""Random configurations, of small chips: any value of any key that the others allow."""

from __future__ import annotations

from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import (
    NETWORK_KINDS,
    ROUNDINGS,
    ArrayConfig,
    MemoryConfig,
    NetworkConfig,
    PodConfig,
    PostConfig,
    PrefetchConfig,
    ProgramConfig,
)
from podweave.spec.links_config import LinksConfig

from .choices import Choices


def random_config(rng: Choices) -> ChipConfig:
    """Up to 16 pods of up to 12 x 12; engines, row functions and links now and then. Raises `ConfigError` for what is not legal
    after all."""

    def one(*options: int) -> int:
        return int(rng.choice(options))

    def between(low: int, high: int) -> int:
        """Small ones more often."""
        return int(rng.integers(low, high + 1)) if rng.integers(0, 3) == 2 else int(rng.integers(low, min(high, low + 6) + 1))

    def divisor(*numbers: int) -> int:
        return one(*(each for each in range(1, min(numbers) + 1) if not any(number % each for number in numbers)))

    pods = one(2, 1, 2, 4, 4, 8, 16)
    small, times = one(1, 2, 3, 4, 4, 6, 8), one(1, 1, 1, 2, 3)
    most = 12 if pods < 8 else 4
    small, times = min(small, most), times if small * times <= most else 1
    has_rows = bool(pods > 1 and small % 2 == 0 and rng.integers(0, 3) == 2)
    tall = has_rows or bool(rng.integers(0, 2))
    # Mostly such that graphs of rows run on chips that have functions for them.
    runs_rows = bool(has_rows and rng.integers(0, 6))
    times = 1 if runs_rows else times
    rows, cols = (small * times, small) if tall else (small, small * times)
    width = 32 if runs_rows or rng.integers(0, 3) else 17 + int(rng.integers(0, 16))
    array = ArrayConfig(rows=rows, cols=cols, group_rows=divisor(rows), group_cols=divisor(cols), psum_width=width)
    pod = PodConfig(
        array=array,
        accumulator_rows=one(*((16, 7, 33, 64) if runs_rows else (16, 0, 1, 7, 33, 64))),
        load_queue_depth=between(2, 64),
        stream_queue_depth=between(2, 64),
        time_width=one(20, 11, 14, 24, 32),
        count_width=one(16, 8, 10, 24),
        tile_width=one(8, 0, 1, 3, 16),
    )
    # An accelerator takes twice as long to emit and build as a chip.
    has_engines = has_rows or bool(rng.integers(0, 2))
    parts = one(1, 1, 2, 4, 16) if has_engines else 1
    words = one(1024, 256, 4096)
    # Engines address words of any number; what has parts is a power of two.
    off = one(0, 0, 1, 17)
    memory = MemoryConfig(
        banks=pods,
        **{name: one(1, 1, 1, 2, 4, 8) if pods < 16 else one(1, 2) for name in ("x_planes", "w_planes", "p_planes", "y_planes")},
        x_words=words if parts > 1 else words + off,
        w_words=one(1024, 256, 4096) + off,
        p_words=one(1024, 256, 4096) + off,
        x_parts=parts,
    )
    network = NetworkConfig(kind=str(rng.choice(NETWORK_KINDS)), pipeline=between(1, 8))
    lanes = 0
    if rng.integers(0, 2):
        whole = min(rows, cols)
        fits = [each for each in range(1, whole + 1) if whole % each == 0 and not (has_rows and each % 2)]
        lanes = one(*fits)
    zero_points = not has_rows and bool(rng.integers(0, 2))
    post = PostConfig(
        parameter_sets=one(64, 24, 65, 256),
        tables=2 * between(1, 8) if has_rows else between(1, 16),
        queue_depth=between(2, 64),
        window_width=between(2, 12),
        lanes=lanes,
        row_registers=one(16, 64, 256) if has_rows else 0,
        rounding=str(rng.choice(ROUNDINGS)) if not has_rows else "half_away",
        scale_bits=int(rng.integers(17, 32)),
        sum_bits=33 if has_rows or width > 30 else one(33, 32, 28),
        zero_points=zero_points,
    )
    jobs = [one(1024, 256, 100, 500) for _ in range(3)]
    program = ProgramConfig(load_jobs=jobs[0], stream_jobs=jobs[1], post_jobs=jobs[2])
    prefetch, links = None, None
    if has_engines:
        data_width, burst = one(64, 128, 256, 512), one(8, 1, 2, 4, 16, 64)
        least = max(16, 2 * max(burst, 512 // data_width))
        prefetch = PrefetchConfig(
            managers=divisor(pods, 16) if pods < 3 else one(1, 2, pods),
            data_width=data_width,
            address_width=int(rng.integers(32, 65)),
            buffer_beats=least * one(1, 2, 4),
            max_burst=burst,
            outstanding=one(8, 2, 4, 64, 256),
            descriptors=one(4, 2, 8, 16),
            base_registers=between(0, 15),
            column_words=min(between(0, 64), data_width // 8),
            pass_bits=between(0, 16),
        )
        if pods > 1 and width * cols >= 64 and rng.integers(0, 3) == 2:
            fits = [each for each in (32, 64, 128) if 2 * each <= width * cols]
            links = LinksConfig(flit_bits=one(*fits), buffer_words=one(8, 2, 64), jobs=one(64, 4, 100))
    return ChipConfig(
        name="random",
        pods=pods,
        pod=pod,
        memory=memory,
        network=network,
        post=post,
        program=program,
        prefetch=prefetch,
        links=links,
    )
