"""Who may import whom: every import of every module is held against the tables, wherever in its file it stands."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "podweave"

# What the modules of a room may import beside their own room and the standard library; a name allows what is below it.
ALLOWED = {
    "rtl": {"amaranth"},
    "golden": {"numpy"},
    "compiler": {"numpy", "podweave.rtl.config", "podweave.rtl.layouts", "podweave.rtl.dma_layouts"},
    "tb": {
        *("cocotb", "cocotb_tools", "cocotbext", "find_libpython", "numpy"),
        *("podweave.rtl", "podweave.golden", "podweave.compiler"),
    },
    "synth": {"podweave.rtl"},
    "podweave": {"podweave", "numpy", "typer", "rich", "matplotlib", "sklearn", "distributed"},
}


def modules(root: Path) -> Iterator[Path]:
    for room in ALLOWED:
        yield from sorted((root / room).rglob("*.py"))


def module_name(path: Path) -> str:
    """The name under which a file, relative to the root of the repository, is imported: folders are below one root."""
    parts = [*([] if path.parts[0] == PACKAGE else [PACKAGE]), *path.with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(source: str, path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that a module imports; ``path`` is relative to the root of the repository."""
    package = module_name(path.parent / "__init__.py").split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                # The folder of a module is level 1 for modules and packages alike.
                kept = package[: len(package) - node.level + 1] if node.level <= len(package) else ["beyond_the_top_level"]
                base = ".".join([*kept, *([base] if base else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in ("__import__", "import_module"):
                name = node.args[0]
                yield node.lineno, name.value if isinstance(name, ast.Constant) else "a_computed_name"


def violations(root: Path) -> list[str]:
    found = []
    for file in modules(root):
        path = file.relative_to(root)
        room = path.parts[0]
        allowed = {module_name(Path(room, "__init__.py")), *ALLOWED[room]}
        for line, name in imported_names(file.read_text(), path):
            parts = name.split(".")
            above = {".".join(parts[:i]) for i in range(1, len(parts) + 1)}
            if parts[0] not in sys.stdlib_module_names and not above & allowed:
                found.append(f"{path}:{line} imports {name}")
    return found


def test_imports_obey_the_table() -> None:
    assert violations(ROOT) == []


def test_every_folder_is_packaged_and_in_the_table() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {module_name(file.relative_to(ROOT).parent / "__init__.py") for file in modules(ROOT)}
    assert folders == set(tool["packages"])
    assert tool["package-dir"] == {module_name(Path(room, "__init__.py")): room for room in ALLOWED}


@pytest.mark.parametrize(
    ("path", "source", "name"),
    [
        ("rtl/bad.py", "import numpy", "numpy"),
        ("rtl/bad.py", "def f():\n    import podweave.golden.gemm as g", "podweave.golden.gemm"),
        (
            "golden/cycle/bad.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from podweave.rtl import pod",
            "podweave.rtl.pod",
        ),
        ("golden/cycle/bad.py", "from ...rtl.config import ChipConfig", "podweave.rtl.config.ChipConfig"),
        ("golden/cycle/bad.py", "from .....rtl.config import ChipConfig", "beyond_the_top_level.rtl.config.ChipConfig"),
        ("golden/bad.py", "import importlib\nimportlib.import_module('podweave.rtl.config')", "podweave.rtl.config"),
        ("golden/bad.py", "name = 'rtl'\n__import__(name + '.config')", "a_computed_name"),
        ("golden/bad.py", "from golden.gemm import gemm", "golden.gemm.gemm"),
        ("compiler/bad.py", "import podweave", "podweave"),
        ("compiler/bad.py", "from podweave.rtl import emit", "podweave.rtl.emit"),
        ("compiler/bad.py", "from podweave.rtl.emit import emit", "podweave.rtl.emit.emit"),
        ("compiler/bad.py", "from podweave.golden.conv import conv2d", "podweave.golden.conv.conv2d"),
        ("tb/sim/bad.py", "try:\n    import amaranth\nexcept ImportError:\n    pass", "amaranth"),
        ("tb/bad.py", "from podweave import cli", "podweave.cli"),
        ("synth/bad.py", "from podweave.compiler.compile import compile_layer", "podweave.compiler.compile.compile_layer"),
        ("podweave/bad.py", "import tests.rtl", "tests.rtl"),
        ("podweave/bad.py", "import scipy", "scipy"),
    ],
)
def test_planted_violation_is_found(tmp_path: Path, path: str, source: str, name: str) -> None:
    planted = tmp_path / path
    planted.parent.mkdir(parents=True)
    planted.write_text(source)
    line = len(source.splitlines()) if "try" not in source else 2
    assert violations(tmp_path) == [f"{path}:{line} imports {name}"]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("rtl/good.py", "import os.path\nfrom . import blocks\nfrom .config import ChipConfig\nfrom amaranth.hdl import Module"),
        ("golden/cycle/good.py", "import numpy as np\nfrom ..gemm import gemm\nfrom .ports import wrap"),
        ("compiler/good.py", "from podweave.rtl import config\nfrom podweave.rtl.layouts import Emit\nimport podweave.rtl.layouts"),
        ("tb/sim/good.py", "import cocotb\nfrom cocotb.clock import Clock\nfrom ..lockstep import Port\nimport podweave.rtl.pod"),
        ("podweave/good.py", "from podweave import synth\nfrom podweave.tb import build\nfrom rich.console import Console"),
    ],
)
def test_legal_imports_are_not_refused(tmp_path: Path, path: str, source: str) -> None:
    legal = tmp_path / path
    legal.parent.mkdir(parents=True)
    legal.write_text(source)
    assert violations(tmp_path) == []


def in_new_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)


_BLOCKED = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("amaranth", "numpy"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Refuse())
"""


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("from podweave.rtl.config import load_config; load_config('pod4')", None),
        ("import podweave.rtl.layouts", None),
        ("import podweave.rtl.blocks", "amaranth is blocked"),
    ],
)
def test_configuration_and_layouts_need_no_hardware_library(statement: str, error: str | None) -> None:
    result = in_new_process(_BLOCKED + statement)
    assert (result.returncode == 0) == (error is None), result.stderr
    assert (error or "") in result.stderr


@pytest.mark.parametrize(
    ("names", "amaranth_free"),
    [
        (sorted(f"podweave.tb.sim.{path.stem}" for path in (ROOT / "tb" / "sim").glob("*.py") if path.stem != "__init__"), True),
        (["podweave.rtl.emit"], False),
    ],
)
def test_simulator_side_loads_no_hardware_library(names: list[str], amaranth_free: bool) -> None:
    assert names
    code = f"import sys, {', '.join(names)}\nprint(*sys.modules)"
    result = in_new_process(code)
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split())
    heavy = {name for name in loaded if name.split(".")[0] == "amaranth" or name == "podweave.rtl.emit"}
    assert (not heavy) == amaranth_free
    if amaranth_free:
        hardware = {f"podweave.rtl{name}" for name in ("", ".config", ".layouts", ".dma_layouts")}
        assert {name for name in loaded if name.startswith("podweave.rtl")} <= hardware
