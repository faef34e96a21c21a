"""Configurations that come with podweave, and those of users: TOML files."""

from __future__ import annotations

import functools
from pathlib import Path

from .config import ChipConfig
from .config_parts import ConfigError

PRESET_DIRECTORY = Path(__file__).with_name("presets")


def preset_names() -> list[str]:
    """Names of the configurations that come with the generator, smallest first."""
    return sorted(_stems(), key=lambda name: (_preset(name).pods * _preset(name).array.multipliers, name))


def _stems() -> set[str]:
    return {path.stem for path in PRESET_DIRECTORY.glob("*.toml")}


@functools.cache
def _preset(name: str) -> ChipConfig:
    return ChipConfig.from_toml((PRESET_DIRECTORY / f"{name}.toml").read_text(encoding="utf-8"))


def load_config(name_or_path: str | Path) -> ChipConfig:
    """The configuration named: a preset, or the path of a TOML file."""
    path = Path(name_or_path)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ConfigError(f"configuration file {str(path)!r} does not exist")
        content = path.read_bytes()
        try:
            # Editors of Windows begin files with a byte order mark, which TOML does not know.
            return ChipConfig.from_toml(content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise ConfigError(f"{path}: line {line}: not UTF-8 (byte 0x{content[error.start]:02x})") from error
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
    if str(name_or_path) not in _stems():
        raise ConfigError(
            f"unknown preset {str(name_or_path)!r}; presets are {', '.join(preset_names())} "
            "(a path that ends in .toml names a file)"
        )
    return _preset(str(name_or_path))
