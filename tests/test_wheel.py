"""The wheel: all that podweave reads is in it, and it works on its own, beside packages of others with the names of our folders."""

from __future__ import annotations

import io
import os
import subprocess
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("processes", "spec", "ir", "rtl", "golden", "compiler", "predict", "synth", "formal", "tb")
# Of a checkout, beside Python: everything in the folders that are packaged but what says how to use them.
_NO_DATA = {".md"}

pytestmark = pytest.mark.campaign


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, encoding="utf-8", errors="replace", **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clean_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git has, as it is now: nothing of an earlier build."""
    copy = tmp_path_factory.mktemp("copy")
    names = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in names:
            if (ROOT / name).is_file():
                archive.add(ROOT / name, name)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as archive:
        archive.extractall(copy, filter="data")
    return copy


@pytest.fixture(scope="module")
def wheel(clean_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # A left-over of an earlier build, as a checkout may have it.
    (clean_copy / "build" / "lib" / "podweave").mkdir(parents=True)
    (clean_copy / "build" / "lib" / "podweave" / "stale.py").write_text("", encoding="utf-8")
    # Environments that uv made, as those of nox, have no pip.
    venv.create(folder / "maker", with_pip=True)
    pip = folder / "maker" / "bin" / "python", "-m", "pip"
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, clean_copy, cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


def test_everything_is_in_it(wheel: Path, clean_copy: Path) -> None:
    place = tomllib.loads((clean_copy / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-dir"]
    expected = {
        f"podweave/{file.relative_to(clean_copy)}" if folder != "podweave" else str(file.relative_to(clean_copy))
        for folder in place.values()
        for file in (clean_copy / folder).rglob("*")
        if file.is_file() and file.suffix not in _NO_DATA
    }
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected
    kinds = {Path(name).suffix or Path(name).name for name in found}
    assert kinds >= {".py", ".toml", ".sv", ".cpp", ".lib", ".v", ".npz", ".json", ".csv"}
    assert "podweave/py.typed" in found


def test_it_works_alone_beside_packages_of_others(wheel: Path, tmp_path: Path) -> None:
    # Also in a folder that make could not work with.
    environment = tmp_path / "with space" / "venv"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    for name in ROOMS:
        (packages / name).mkdir()
        (packages / name / "__init__.py").write_text(f"whose = 'others: {name}'\n", encoding="utf-8")
    # Everything but podweave comes from here: its own metadata and finder are below another name.
    ours = Path(sysconfig.get_path("purelib"))
    for installed in ours.iterdir():
        if "podweave" not in installed.name and not (packages / installed.name).exists() and installed.suffix != ".pth":
            (packages / installed.name).symlink_to(installed)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    options = {"cwd": tmp_path, "env": clean | {"PODWEAVE_CACHE": str(tmp_path / "cache")}}
    where = run(python, "-c", "import podweave, podweave.tb; print(podweave.__file__, podweave.tb.__file__)", **options)
    assert all(Path(name).is_relative_to(packages) for name in where.strip().replace(".py ", ".py\n").splitlines())
    out = run(python, "-m", "podweave", "run", "gemm:9x9x9", "--config", "pod4", **options)
    assert "verdict: pass" in out
    for name in ROOMS:
        assert run(python, "-c", f"import {name}; print({name}.whose)", **options) == f"others: {name}\n"
