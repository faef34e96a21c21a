"""Which tests judge which blocks: those that hold a block, alone or in its parent, against its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


def _named(*kinds: str) -> dict[str, str]:
    """Kinds whose modules have the kind as their name, or behind it a variant that begins with a digit."""
    return {kind: rf"{kind}(_\d.*)?" for kind in kinds}


@dataclass(frozen=True)
class Target:
    """Parameters
    ----------
    kinds : mapping of str to str
        As of `Campaign`.
    tests : sequence of str
        Arguments of pytest.
    share : float
        Of ``--count``: blocks that are little but wires have few mutants that differ.
    """

    kinds: Mapping[str, str]
    tests: Sequence[str]
    share: float = 1.0


TARGETS = {
    "p_bank": Target(_named("p_bank"), ["tests/rtl/node/test_p_bank.py", "-k", "4_lanes_planes2_links or host_adds"]),
    "read_bank": Target({"read_bank": "[xw]_bank.*|read_bank.*"}, ["tests/rtl/node/test_read_bank.py", "-k", "x_8x4_planes2_2_parts4 or different_parts"]),
    "feeder": Target(_named("feeder"), ["tests/rtl/node/test_feeder.py"]),
    "statistics": Target(_named("statistics_network"), ["tests/rtl/network/test_statistics.py", "-k", "4"]),
}
