"""The blocks of a link are lint clean by themselves, in every configuration of the lockstep."""

from __future__ import annotations

from pathlib import Path

import pytest

from podweave.rtl.accelerator.emit import emit_block
from podweave.rtl.link.collective_engine import CollectiveEngine
from podweave.rtl.link.link_port import LinkPort
from tests.verilator_lint import VERILATORS, lint

from .link_cases import CONFIGS


@pytest.mark.parametrize("which", VERILATORS)
@pytest.mark.parametrize("block", [CollectiveEngine, LinkPort])
@pytest.mark.parametrize("name", CONFIGS)
def test_verilator_finds_nothing_to_warn_of(tmp_path: Path, name: str, block: type, which: str) -> None:
    emitted = emit_block(block(CONFIGS[name]))
    emitted.write(tmp_path)
    assert lint(which, tmp_path, [f"{emitted.top}.vlt", f"{emitted.top}.v"], emitted.top) == (0, "")
