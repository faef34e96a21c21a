"""Who may import whom: every import of every module is held against the table, wherever in its file it stands."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# What the modules of a folder may import beside their own folder and the standard library; a name allows what is below it.
ALLOWED = {
    "rtl": {"amaranth"},
    "golden": {"numpy"},
    "compiler": {"numpy", "rtl.config", "rtl.layouts", "rtl.dma_layouts"},
    "tb": {"cocotb", "cocotb_tools", "cocotbext", "find_libpython", "numpy", "rtl", "golden", "compiler"},
    "synth": {"rtl"},
    "podweave": {"rtl", "golden", "compiler", "tb", "synth", "numpy", "typer", "rich", "matplotlib", "sklearn", "distributed"},
}


def modules(root: Path) -> Iterator[Path]:
    for package in ALLOWED:
        yield from sorted((root / package).rglob("*.py"))


def imported_names(source: str, path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that a module imports; ``path`` is relative to the root of the repository."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                # The folder of a module is level 1 for modules and packages alike.
                folders = path.parent.parts
                kept = folders[: len(folders) - node.level + 1]
                if node.level > len(folders):
                    kept = ("beyond_the_top_level",)
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
        package = path.parts[0]
        allowed = {package, *ALLOWED[package]}
        for line, name in imported_names(file.read_text(), path):
            parts = name.split(".")
            above = {".".join(parts[:i]) for i in range(1, len(parts) + 1)}
            if parts[0] not in sys.stdlib_module_names and not above & allowed:
                found.append(f"{path}:{line} imports {name}")
    return found


def test_imports_obey_the_table() -> None:
    assert violations(ROOT) == []


def test_every_folder_is_packaged_and_in_the_table() -> None:
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {".".join(file.relative_to(ROOT).parent.parts) for file in modules(ROOT)}
    assert folders == set(packaged)
    assert {name.split(".")[0] for name in packaged} == set(ALLOWED)


@pytest.mark.parametrize(
    ("path", "source", "name"),
    [
        ("rtl/bad.py", "import numpy", "numpy"),
        ("rtl/bad.py", "def f():\n    import golden.gemm as g", "golden.gemm"),
        ("golden/cycle/bad.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from rtl import pod", "rtl.pod"),
        ("golden/cycle/bad.py", "from ...rtl.config import ChipConfig", "beyond_the_top_level.rtl.config.ChipConfig"),
        ("golden/bad.py", "import importlib\nimportlib.import_module('rtl.config')", "rtl.config"),
        ("golden/bad.py", "name = 'rtl'\n__import__(name + '.config')", "a_computed_name"),
        ("compiler/bad.py", "import rtl", "rtl"),
        ("compiler/bad.py", "from rtl import emit", "rtl.emit"),
        ("compiler/bad.py", "from rtl.emit import emit", "rtl.emit.emit"),
        ("compiler/bad.py", "from golden.conv import conv2d", "golden.conv.conv2d"),
        ("tb/sim/bad.py", "try:\n    import amaranth\nexcept ImportError:\n    pass", "amaranth"),
        ("tb/bad.py", "import podweave", "podweave"),
        ("synth/bad.py", "from compiler.compile import compile_layer", "compiler.compile.compile_layer"),
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
        ("compiler/good.py", "from rtl import config\nfrom rtl.layouts import Emit\nimport rtl.layouts"),
        ("tb/sim/good.py", "import cocotb\nfrom cocotb.clock import Clock\nfrom ..lockstep import Port\nimport rtl.pod"),
        ("podweave/good.py", "import synth\nfrom tb import build\nfrom rich.console import Console"),
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
        ("from rtl.config import load_config; load_config('pod4')", None),
        ("import rtl.layouts", None),
        ("import rtl.blocks", "amaranth is blocked"),
    ],
)
def test_configuration_and_layouts_need_no_hardware_library(statement: str, error: str | None) -> None:
    result = in_new_process(_BLOCKED + statement)
    assert (result.returncode == 0) == (error is None), result.stderr
    assert (error or "") in result.stderr


@pytest.mark.parametrize(
    ("names", "amaranth_free"),
    [
        (sorted(f"tb.sim.{path.stem}" for path in (ROOT / "tb" / "sim").glob("*.py") if path.stem != "__init__"), True),
        (["rtl.emit"], False),
    ],
)
def test_simulator_side_loads_no_hardware_library(names: list[str], amaranth_free: bool) -> None:
    assert names
    code = f"import sys, {', '.join(names)}\nprint(*sys.modules)"
    result = in_new_process(code)
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split())
    heavy = {name for name in loaded if name.split(".")[0] == "amaranth" or name == "rtl.emit"}
    assert (not heavy) == amaranth_free
    if amaranth_free:
        assert {name for name in loaded if name.split(".")[0] == "rtl"} <= {"rtl", "rtl.config", "rtl.layouts", "rtl.dma_layouts"}
