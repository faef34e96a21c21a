"""What of a chip must be larger for a network that it refuses: a refusal names what is full, and not what would do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from podweave.ir.layers import WorkloadError
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ConfigError

FACTORS = (2, 4, 8, 16)
"""By which stores are made larger, all of them alike."""
STORES = {
    "memory": ("x_words", "w_words", "p_words"),
    "post": ("parameter_sets",),
    "program": ("load_jobs", "stream_jobs", "post_jobs"),
}
"""What networks fill, by the part of a configuration."""


@contextmanager
def advising(compiles: Callable[[ChipConfig], object], config: ChipConfig, progress: Callable[[str], None]) -> Iterator[None]:
    """For what compiles for ``config``, as ``compiles`` does for any.

    If it raises `WorkloadError` since a network does not fit, and a chip with larger stores takes it, the sentence says which are
    enough.
    """
    try:
        yield
    except WorkloadError as error:
        progress(f"{error}; looking for stores in which it fits")
        enough = larger_stores(compiles, config)
        if not enough:
            raise
        now = _stores(config)
        said = ", ".join(f"{name} = {value} (not {now[name]})" for name, value in enough.items())
        raise WorkloadError(f"{error}; it fits with {said}") from error


def larger_stores(compiles: Callable[[ChipConfig], object], config: ChipConfig) -> dict[str, int]:
    """Words, sets and jobs with which ``compiles`` does not raise `WorkloadError`.

    Empty if those that there are do, and if 16 times as many are too few.

    The least factor of `FACTORS` with which all stores are enough together, and of them only those that must be larger.
    """

    def takes(stores: Mapping[str, int]) -> bool:
        try:
            compiles(config.replace(**stores))
        except (WorkloadError, ConfigError):
            return False
        return True

    now = _stores(config)
    legal = [{name: value * factor for name, value in now.items()} for factor in FACTORS]
    legal = [stores for stores in legal if _is_legal(config, stores)]
    # What is refused for another reason is refused by the largest chip, too.
    if not legal or not takes(legal[-1]):
        return {}
    enough = next(stores for stores in legal if stores is legal[-1] or takes(stores))
    for name in now:
        fewer = {each: value for each, value in enough.items() if each != name}
        if takes(fewer):
            enough = fewer
    return enough


def _stores(config: ChipConfig) -> dict[str, int]:
    parts = {part: getattr(config, part) for part in STORES}
    return {name: getattr(parts[part], name) for part, names in STORES.items() if parts[part] for name in names}


def _is_legal(config: ChipConfig, stores: Mapping[str, int]) -> bool:
    try:
        config.replace(**stores)
    except ConfigError:
        return False
    return True
