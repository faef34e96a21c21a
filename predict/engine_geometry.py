"""What the exact model of a prefetch engine needs of a configuration."""

from __future__ import annotations

from podweave.golden.cycle.prefetch.words import EngineGeometry, Target
from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import (
    BESIDE_BANKS,
    EPOCH_BANKS,
    STORABLE,
    loadable,
    memory_stride,
    word_bytes,
    word_pieces,
    words_of,
)


def engine_geometry(config: ChipConfig) -> EngineGeometry:
    """What the exact model of a prefetch engine needs of a configuration."""
    assert config.prefetch is not None
    targets = {}
    for select in loadable(config):
        sizes = memory_stride(config, select), word_pieces(config, select), word_bytes(config, select)
        targets[int(select)] = Target(words_of(config, select), *sizes)
    return EngineGeometry(
        beat_bytes=config.host_bits // 8,
        address_width=config.prefetch.address_width,
        buffer_beats=config.prefetch.buffer_beats,
        max_burst=config.prefetch.max_burst,
        outstanding=config.prefetch.outstanding,
        descriptors=config.prefetch.descriptors,
        base_registers=config.prefetch.base_registers,
        passes=config.passes > 0,
        column_words=config.prefetch.column_words,
        nodes=config.nodes_per_manager,
        host_levels=config.host_levels,
        read_latency=config.host_read_latency,
        targets=targets,
        storable=tuple(int(select) for select in STORABLE),
        epoch_banks=tuple(int(select) for select in EPOCH_BANKS),
        beside_banks=tuple(int(select) for select in BESIDE_BANKS) if config.memory.x_parts > 1 else (),
    )
