"""What is kept from run to run is used when it is whole, and made anew when it is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import podweave.rtl.accelerator.emit
from podweave.spec.presets import load_config
from podweave.studies.points import Point, sweep
from podweave.tb.build.emission import emitted_design
from podweave.tb.build.environment import clean_environment
from podweave.tb.build.kept import cache_directory, can_be_written, read_json, write_json, write_whole
from podweave.tb.build.runtime import headers, runtime
from podweave.tb.build.toolchain import find_toolchain
from podweave.tb.build.verilate import Build, build

TOP = "module top(input wire clk); endmodule\n"


@pytest.fixture(scope="module")
def shared_parts() -> list[Path]:
    """Folders of what all simulators share, which takes longer to make than they do."""
    toolchain = find_toolchain()
    return [runtime(toolchain, "build", False).parent, headers(toolchain, "build", False, []).parent]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PODWEAVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def filled_cache(shared_parts: list[Path], own_cache: Path) -> Path:
    for part in shared_parts:
        shutil.copytree(part, own_cache / part.parent.name / part.name)
    return own_cache


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = [cut, empty]


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


@pytest.mark.parametrize("damage", [*DAMAGES, lambda path: path.write_bytes(b"[]"), lambda path: path.write_bytes(b"\xff\xfe")])
def test_a_damaged_emission_is_made_anew(own_cache: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]) -> None:
    class Emitted:
        verilog, control, sidecar, circuit = "module", "control", {"ports": []}, {"wiring": {}}

    made = []
    monkeypatch.setattr(podweave.rtl.accelerator.emit, "emit", lambda *_, **__: made.append(1) or Emitted)
    config = load_config("pod4")
    expected = ("module", "control", {"ports": []}, {"wiring": {}})
    assert emitted_design(config) == emitted_design(config) == expected
    assert len(made) == 1
    damage(only(own_cache, "emitted/*.json"))
    assert emitted_design(config) == emitted_design(config) == expected
    assert len(made) == 2


def built() -> Build:
    return build({"top.v": TOP}, top="top", public_inputs=["clk"], optimize="build")


def test_a_damaged_simulator_is_made_anew_with_the_parts_that_are_there(filled_cache: Path) -> None:
    first = built()
    assert first.fresh
    assert not built().fresh
    parts = [only(filled_cache, name) for name in ("runtime/*/runtime.a", "headers/*/headers.h.gch")]
    before = [part.stat().st_mtime_ns for part in parts]
    executable = only(filled_cache, "builds/*/top")
    for damage in (cut, flip, empty, Path.unlink, lambda path: (path.parent / "complete.json").unlink()):
        whole = executable.read_bytes() if executable.exists() else b""
        damage(executable)
        assert built().fresh
        assert executable.read_bytes()[:4] == b"\x7fELF"
        assert not built().fresh
        assert len(executable.read_bytes()) >= len(whole) > 0
    assert [part.stat().st_mtime_ns for part in parts] == before


@pytest.mark.parametrize(("part", "begin"), [("runtime/*/runtime.a", b"!<arch>\n"), ("headers/*/headers.h.gch", b"gpch")])
def test_damaged_parts_are_made_anew(filled_cache: Path, part: str, begin: bytes) -> None:
    file = only(filled_cache, part)
    flip(file)
    flipped = file.read_bytes()
    assert built().fresh
    whole = only(filled_cache, part).read_bytes()
    assert whole[: len(begin)] == begin
    assert whole != flipped


def test_what_is_precompiled_is_what_compilers_read(filled_cache: Path) -> None:
    text = only(filled_cache, "headers/*/headers.h")
    text.write_text("#error read\n", encoding="utf-8")
    assert built().fresh
    only(filled_cache, "headers/*/headers.h.gch").unlink()
    shutil.rmtree(filled_cache / "builds")
    assert built().fresh
    assert "#error" not in text.read_text(encoding="utf-8")


@pytest.mark.parametrize("damage", [*DAMAGES, lambda path: path.write_bytes(b"[1]")])
def test_damaged_figures_are_computed_anew(own_cache: Path, damage: Callable[[Path], None]) -> None:
    point = Point("test", "gemm:8x8x8", "", (("pods", 2), ("rows", 4)))
    (figures,) = sweep([point], jobs=1)
    damage(only(own_cache, "studies/*.json"))
    (again,) = sweep([point], jobs=1)
    assert {**again, "compile_s": 0, "model_s": 0} == {**figures, "compile_s": 0, "model_s": 0}
    assert sweep([point], jobs=1) == [again]


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "file", {"слой": 1})
    assert read_json(tmp_path / "new" / "file") == {"слой": 1}
    assert read_json(tmp_path / "none") is None
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "new", b"content")
    assert [path.name for path in tmp_path.rglob("*.part")] == []


def test_the_cache_is_an_absolute_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = []
    for chosen, user in (("relative", ""), ("~/mine", ""), ("", "other"), ("", "")):
        monkeypatch.setenv("PODWEAVE_CACHE", chosen)
        monkeypatch.setenv("XDG_CACHE_HOME", user)
        found.append(cache_directory())
    home = tmp_path / "home"
    assert found == [tmp_path / "relative", home / "mine", tmp_path / "other" / "podweave", home / ".cache" / "podweave"]


def test_a_folder_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert can_be_written(tmp_path / "new" / "folder") is None
    for folder, reason in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "in", "Not a directory")):
        problem = can_be_written(folder)
        assert problem is not None
        assert problem.strerror == reason


def test_the_environment_of_tools_has_nothing_of_other_benches(monkeypatch: pytest.MonkeyPatch) -> None:
    others = ("COCOTB_TESTCASE", "GPI_EXTRA", "PYGPI_USERS", "VERILATOR_ROOT", "RANDOM_SEED", "TOPLEVEL", "MODULE", "MAKEFLAGS")
    for name in (*others, "OF_THE_USER"):
        monkeypatch.setenv(name, "x")
    env = clean_environment()
    assert not env.keys() & set(others)
    assert env["OF_THE_USER"] == "x"
