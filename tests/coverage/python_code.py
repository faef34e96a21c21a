"""Which lines and branches of the Python of each room the fast tests reach, by coverage.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.coverage.python_waivers import WAIVERS, Waiver, waived
from tests.import_rules import BELOW

ROOT = Path(__file__).parents[2]
ROOMS = sorted(BELOW)
PARTS = {"lines": ("covered_lines", "num_statements"), "branches": ("covered_branches", "num_branches")}
"""As coverage.py calls what is reached and what there is."""
Figures = dict[str, dict[str, list[int]]]

_SETTINGS = """\
[run]
branch = true
source = {source}
# Programs that tests start, and Python in simulators, which end without a word.
patch =
    subprocess
    fork
    _exit
disable_warnings = no-data-collected, module-not-measured, couldnt-parse
"""


def folders() -> list[str]:
    """Folders of tests, each of which is measured by itself: not what is below it."""
    return sorted({file.parent.relative_to(ROOT).as_posix() for file in (ROOT / "tests").rglob("test_*.py")})


def measure(folder: str, data: Path) -> Path:
    """Run the fast tests of a folder; the file in ``data`` with what they reach. Raises `RuntimeError` if one fails."""
    files = sorted(str(file.relative_to(ROOT)) for file in (ROOT / folder).glob("test_*.py"))
    kept = _kept(folder, data)
    with tempfile.TemporaryDirectory(prefix="podweave-coverage-") as name:
        settings = _settings(Path(name))
        command = [sys.executable, "-m", "coverage"]
        options = [f"--rcfile={settings}", f"--data-file={Path(name) / 'data'}"]
        pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not campaign", *files]
        # What is kept by content was made by what may not have been looked at.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1")}
        done = subprocess.run([*command, "run", *options, "--parallel-mode", *pytest], cwd=ROOT, env=environment, check=False)
        # 5: all tests of the folder are of the campaign.
        if done.returncode not in (0, 5):
            raise RuntimeError(f"pytest {folder} has ended with exit code {done.returncode}")
        subprocess.run([*command, "combine", *options, "--quiet", name], cwd=ROOT, check=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        (Path(name) / "data").replace(kept)
    return kept


def measured(wanted: Iterable[str], data: Path, progress: Callable[[str], None], processes: int = 1) -> list[str]:
    """Measure folders that are not in ``data`` yet, so many at a time; returns those that are then, of all."""
    todo = [folder for folder in wanted if not _kept(folder, data).exists()]

    def one(number: int, folder: str) -> None:
        progress(f"{number}/{len(todo)} {folder}")
        try:
            measure(folder, data)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            progress(str(error))

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(one, range(1, len(todo) + 1), todo))
    return [folder for folder in folders() if _kept(folder, data).exists()]


def report(found: Iterable[str], data: Path) -> dict[str, Any]:
    """What the tests of some folders reach together, of every file, as coverage.py says it in JSON."""
    with tempfile.TemporaryDirectory(prefix="podweave-coverage-") as name:
        settings, file = _settings(Path(name)), Path(name) / "report.json"
        command = [sys.executable, "-m", "coverage"]
        options = [f"--rcfile={settings}", f"--data-file={Path(name) / 'data'}"]
        kept = [str(_kept(folder, data)) for folder in found]
        subprocess.run([*command, "combine", *options, "--quiet", "--keep", *kept], cwd=ROOT, check=True)
        subprocess.run([*command, "json", *options, "--quiet", "-o", str(file)], cwd=ROOT, check=True)
        files: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["files"]
    return files


def figures(files: Mapping[str, Any], waivers: Sequence[Waiver] = WAIVERS) -> Figures:
    """By room: lines and branches that are reached, and that there are without those that are waived; and how many these are.

    Raises `ValueError` as `waived`.
    """
    rooms: Figures = {room: {**{part: [0, 0] for part in PARTS}, "waived": [0, 0]} for room in ROOMS}
    less = waived(files, waivers)
    for path, row in files.items():
        summary, room = row["summary"], rooms[Path(path).parts[0]]
        for i, (part, (reached, there)) in enumerate(PARTS.items()):
            count = less.get(path, {}).get(part, 0)
            room[part][0] += summary[reached]
            room[part][1] += summary[there] - count
            room["waived"][i] += count
    return rooms


def judged(found: Iterable[str]) -> list[str]:
    """Rooms of which all folders of tests are among those found: of others, too little has been run to say anything."""
    missing = set(folders()) - set(found)
    return [room for room in ROOMS if not any(f"{folder}/".startswith(f"tests/{room}/") for folder in missing)]


def table(rooms: Mapping[str, Mapping[str, list[int]]]) -> list[str]:
    """Lines of Markdown."""
    lines = ["| room | lines | branches | waived: lines, branches |", "|---|---|---|---|"]
    total = {part: [sum(room[part][i] for room in rooms.values()) for i in (0, 1)] for part in (*PARTS, "waived")}
    for name, room in [*((f"`{room}`", rooms[room]) for room in sorted(rooms)), ("all", total)]:
        cells = [f"{room[part][0]} of {room[part][1]}, {100 * room[part][0] / max(1, room[part][1]):.1f}%" for part in PARTS]
        cells.append("{}, {}".format(*room["waived"]) if any(room["waived"]) else "-")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _kept(folder: str, data: Path) -> Path:
    return data / f"{folder.replace('/', '.')}.coverage"


def _settings(directory: Path) -> Path:
    file = directory / "settings"
    source = "".join(f"\n    {ROOT / room}" for room in ROOMS)
    file.write_text(_SETTINGS.format(source=source), encoding="utf-8")
    return file
