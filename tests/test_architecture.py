"""Who may import whom: every import of every module is held against the tables, wherever in its file it stands."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.import_rules import ALLOWED, INSIDE

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "podweave"

MOST_LINES = 400


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


def import_graph(root: Path) -> dict[Path, list[tuple[int, Path]]]:
    """Which module of ours imports which, with the lines; paths are relative to the root."""
    files = {module_name(file.relative_to(root)): file.relative_to(root) for file in modules(root)}
    graph: dict[Path, list[tuple[int, Path]]] = {}
    for path in files.values():
        graph[path] = []
        for line, name in imported_names((root / path).read_text(), path):
            # A name, or what it is an attribute of.
            while name and name not in files:
                name = name.rpartition(".")[0]
            if name and name != PACKAGE and files[name] != path:
                graph[path].append((line, files[name]))
    return graph


def place_in_room(path: Path) -> str:
    """A folder below a room, or a module that stands in a room itself; all of a room without folders is one."""
    folder = path.parent.as_posix()
    if len(path.parts) > 2:
        return folder
    return f"{folder}/*" if f"{folder}/*" in INSIDE else f"{folder}/{path.stem}"


def violations_inside(root: Path) -> list[str]:
    found = []
    for path, imports in import_graph(root).items():
        here = place_in_room(path)
        for line, other in imports:
            there = place_in_room(other)
            # Packages that only have a docstring are no place.
            empty = other.name == "__init__.py" and len(ast.parse((root / other).read_text()).body) < 2
            if other.parts[0] == path.parts[0] and here != there and there not in INSIDE.get(here, []) and not empty:
                found.append(f"{path}:{line} imports {other}")
    return found


def circles(root: Path) -> list[list[Path]]:
    """Modules that import each other, directly or over others."""
    graph = {path: {other for _, other in imports} for path, imports in import_graph(root).items()}
    while graph:
        free = [path for path, imports in graph.items() if not imports & graph.keys()]
        if not free:
            break
        for path in free:
            del graph[path]
    # What only imports a circle is not in one.
    while unused := [path for path in graph if not any(path in others for others in graph.values())]:
        for path in unused:
            del graph[path]
    return [sorted(graph)] if graph else []


def test_imports_inside_of_rooms_obey_the_table() -> None:
    assert violations_inside(ROOT) == []
    assert INSIDE.keys() >= {place_in_room(path) for path, imports in import_graph(ROOT).items() if imports}


def test_places_are_in_an_order() -> None:
    left = dict(INSIDE)
    while left:
        free = [place for place, below in left.items() if not set(below) - {place} & left.keys()]
        assert free, f"in a circle: {sorted(left)}"
        left = {place: below for place, below in left.items() if place not in free}


def test_no_module_imports_itself_over_others() -> None:
    assert circles(ROOT) == []


def test_a_planted_circle_and_a_planted_import_inside_of_a_room_are_found(tmp_path: Path) -> None:
    for path, source in {
        "rtl/parts/a.py": "from ..pod.b import value",
        "rtl/pod/b.py": "from ..parts.c import value",
        "rtl/parts/c.py": "def late():\n    from . import a",
        "rtl/pod/d.py": "from ..parts import c",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source)
    assert violations_inside(tmp_path) == ["rtl/parts/a.py:1 imports rtl/pod/b.py"]
    assert circles(tmp_path) == [[Path("rtl/parts/a.py"), Path("rtl/parts/c.py"), Path("rtl/pod/b.py")]]


def test_no_file_is_too_long() -> None:
    files = [*modules(ROOT), *(ROOT / "tests").rglob("*.py")]
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files}
    assert {file: lines for file, lines in lengths.items() if lines > MOST_LINES} == {}


def test_every_folder_is_packaged_and_in_the_table() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {module_name(file.relative_to(ROOT).parent / "__init__.py") for file in modules(ROOT)}
    assert folders == set(tool["packages"])
    assert tool["package-dir"] == {module_name(Path(room, "__init__.py")): room for room in ALLOWED}


@pytest.mark.parametrize(
    ("path", "source", "name"),
    [
        ("rtl/bad.py", "import numpy", "numpy"),
        ("spec/bad.py", "import numpy", "numpy"),
        ("spec/bad.py", "from podweave.ir.layers import Layer", "podweave.ir.layers.Layer"),
        ("predict/bad.py", "from podweave.tb.build.verilate import build", "podweave.tb.build.verilate.build"),
        ("predict/bad.py", "from amaranth import Module", "amaranth.Module"),
        ("rtl/bad.py", "def f():\n    import podweave.golden.layers.gemm as g", "podweave.golden.layers.gemm"),
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
        ("compiler/bad.py", "from podweave import rtl", "podweave.rtl"),
        ("compiler/bad.py", "from podweave.rtl.accelerator.emit import emit", "podweave.rtl.accelerator.emit.emit"),
        ("compiler/bad.py", "from podweave.golden.layers.conv import conv2d", "podweave.golden.layers.conv.conv2d"),
        ("tb/sim/bad.py", "try:\n    import amaranth\nexcept ImportError:\n    pass", "amaranth"),
        ("tb/bad.py", "from podweave import cli", "podweave.cli"),
        ("synth/bad.py", "from podweave.compiler.jobs import Place", "podweave.compiler.jobs.Place"),
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
        ("compiler/good.py", "from podweave.spec import config\nfrom podweave.ir.layers import Layer\nimport podweave.spec.layout"),
        (
            "tb/sim/good.py",
            "import cocotb\nfrom cocotb.clock import Clock\nfrom ..lockstep.ports import Port\nfrom podweave.rtl import pod",
        ),
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
        ("from podweave.spec.presets import load_config; load_config('pod4')", None),
        ("import podweave.spec.layout, podweave.spec.register_map", None),
        ("import podweave.rtl.parts.blocks", "amaranth is blocked"),
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
        (["podweave.rtl.accelerator.emit"], False),
    ],
)
def test_simulator_side_loads_no_hardware_library(names: list[str], amaranth_free: bool) -> None:
    assert names
    code = f"import sys, {', '.join(names)}\nprint(*sys.modules)"
    result = in_new_process(code)
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split())
    heavy = {name for name in loaded if name.split(".")[0] == "amaranth" or name.startswith("podweave.rtl")}
    assert (not heavy) == amaranth_free
