"""Members of the port through which the collective engine reaches X and P banks."""

from __future__ import annotations

from podweave.spec.config import ChipConfig
from podweave.spec.layout import bits_for_index


def link_access_members(config: ChipConfig) -> dict[str, int]:
    """Names and widths of what goes with an access of the collective engine all the way to its node."""
    return {
        "link_write": 1,
        "link_add": 1,
        "link_kind": 1,
        "link_address": bits_for_index(max(config.memory.x_words, config.memory.p_words)),
        "link_data": config.link_bits,
    }


def link_members(config: ChipConfig) -> dict[str, int]:
    """Names and widths of the port for the collective engine but ``link_read_data``."""
    return {"link_valid": 1, "link_unit": bits_for_index(config.pods), **link_access_members(config)}
