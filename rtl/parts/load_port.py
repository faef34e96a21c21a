"""Members of a load port."""

from __future__ import annotations

from podweave.spec.config import ChipConfig
from podweave.spec.layout import bits_for_index
from podweave.spec.load_port import HostSelect, host_address_width, host_beat_width


def access_members(config: ChipConfig) -> dict[str, int]:
    """Names and widths of what goes with a host access all the way to its node."""
    return {
        "host_write": 1,
        "host_commit": 1,
        "host_select": bits_for_index(len(HostSelect)),
        "host_address": host_address_width(config),
        "host_beat": host_beat_width(config),
        "host_data": config.host_bits,
    }


def load_port_members(config: ChipConfig) -> dict[str, int]:
    """Names and widths of a load port but ``host_read_data``."""
    return {"host_valid": 1, "host_broadcast": 1, "host_unit": bits_for_index(config.nodes_per_manager), **access_members(config)}
