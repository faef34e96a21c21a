"""The part of a configuration that is about links between chips."""

from __future__ import annotations

from dataclasses import dataclass

from .config_parts import ConfigError, check_range


@dataclass(frozen=True, kw_only=True)
class LinksConfig:
    """Links of a chip to its two neighbours in a ring, and the collective engine.

    A word of a bank travels in flits; a P word takes at least two, as the collective engine reads and writes in turns.

    Parameters
    ----------
    flit_bits : int
        Bits of a word in a flit, a power of two from 32 to 512, and at most half a P word.
    buffer_words : int
        P words for which a receiver has room, a power of two from 2 to 1024: to keep a link busy, at least latency x bandwidth,
        there and back.
    jobs : int
        Jobs of the sender, and as many of the receiver, 4 to 65536.

    Errors
    ------
    ConfigError
        A value is not in its range, or no power of two.
    """

    flit_bits: int = 128
    buffer_words: int = 64
    jobs: int = 256

    def __post_init__(self) -> None:
        check_range(self, "flit_bits", 32, 512)
        check_range(self, "buffer_words", 2, 1024)
        check_range(self, "jobs", 4, 65536)
        for name in ("flit_bits", "buffer_words"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ConfigError(f"{name} must be a power of two, got {value}")
