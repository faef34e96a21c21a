"""What is kept by content is made anew when any source changes, however deep it lies."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from podweave.spec.presets import load_config
from podweave.studies import points as study_points
from podweave.tb.build import emission
from podweave.tb.build.sources import sources_hash


def copied(folders: tuple[Path, ...], into: Path) -> tuple[Path, ...]:
    """Copies of folders, with a file in a sub-folder of each if there was none."""
    made = tuple(Path(shutil.copytree(folder, into / folder.name)) for folder in folders)
    for folder in made:
        (folder / "deep" / "deeper").mkdir(parents=True)
        (folder / "deep" / "deeper" / "planted.py").write_text("value = 1\n")
    return made


def emitted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[tuple[Path, ...], Callable[[], str]]:
    folders = copied(emission.GENERATOR, tmp_path)
    monkeypatch.setattr(emission, "GENERATOR", folders)
    return folders, lambda: emission.emission_key(load_config("pod4"))


def studied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[tuple[Path, ...], Callable[[], str]]:
    folders = copied(study_points.COMPUTING, tmp_path)
    monkeypatch.setattr(study_points, "COMPUTING", folders)
    return folders, study_points.sources_version.__wrapped__


@pytest.mark.parametrize("keys", [emitted, studied])
def test_any_file_in_any_folder_changes_the_key(keys: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folders, key = keys(monkeypatch, tmp_path)
    before = key()
    assert key() == before
    for folder in folders:
        files = sorted(folder.rglob("*.py"))
        assert any(len(file.relative_to(folder).parts) > 2 for file in files)
        for file in (files[0], folder / "deep" / "deeper" / "planted.py"):
            content = file.read_text()
            file.write_text(content + "\n")
            assert key() != before, file
            file.write_text(content)
            assert key() == before


def test_a_file_that_moves_changes_the_hash_and_what_is_left_out_does_not(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "same.py").write_text("x = 1\n")
    before = sources_hash([tmp_path])
    (tmp_path / "a" / "same.py").rename(tmp_path / "a" / "b" / "same.py")
    moved = sources_hash([tmp_path])
    assert moved != before
    (tmp_path / "a" / "shown.py").write_text("colour = 'red'\n")
    assert sources_hash([tmp_path], without=[tmp_path / "a" / "shown.py"]) == moved
    assert sources_hash([tmp_path], without=[tmp_path / "a"]) != moved


def test_what_shows_figures_exists() -> None:
    assert all(path.exists() for path in study_points.SHOWING)
