"""The pages: links lead somewhere, and paths, names and command lines in them exist; nothing is run."""

from __future__ import annotations

import importlib
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from podweave.bench.speed import BENCHES
from podweave.cli.app import app
from podweave.formal.catalogue import EQUIVALENCES, PROPERTIES
from podweave.spec.presets import preset_names
from podweave.studies.run import STUDY_NAMES
from tests.import_rules import ALLOWED, BELOW, INSIDE
from tests.test_architecture import ROOT

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[(?:[^\]]*)\]\(([^()\s]+)\)")
_PATH = re.compile(rf"(?:{'|'.join((*ALLOWED, 'docs', 'tests'))})/[\w./-]*")
_NAME = re.compile(r"(podweave(?:\.\w+)+)(?:\(.*)?")
# What a reader puts something else for: FILE, N, NAME.toml.
_PLACEHOLDER = re.compile(r"[A-Z_]+(?:\.\w+)?")


def pages(root: Path) -> list[Path]:
    return [*(root / name for name in ("README.md", "CHANGELOG.md") if (root / name).exists()), *sorted(root.glob("docs/**/*.md"))]


def spans(text: str) -> list[str]:
    """What stands between single backticks, outside of blocks of code; a span may go on in the next line."""
    return [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", _FENCED.sub("", text))]


def anchors(text: str) -> set[str]:
    """The names that headings have for links, as GitHub makes them."""
    found: Counter[str] = Counter()
    for heading in re.findall(r"^#+ +(.+?) *$", _FENCED.sub("", text), re.MULTILINE):
        found[re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")] += 1
    return {name if not i else f"{name}-{i}" for name, count in found.items() for i in range(count)}


def broken_links(page: Path) -> Iterator[str]:
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    for link in _LINK.findall(re.sub(r"`[^`]+`", "", text)):
        target, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            continue
        file = page.parent / target if target else page
        if not file.exists():
            yield f"link to {link}"
        elif anchor and (file.suffix != ".md" or anchor not in anchors(file.read_text(encoding="utf-8"))):
            yield f"link to {link}: no such heading"


def missing_paths(page: Path, root: Path) -> Iterator[str]:
    for span in spans(page.read_text(encoding="utf-8")):
        placeholder = any(_PLACEHOLDER.fullmatch(part) for part in span.split("/"))
        if _PATH.fullmatch(span) and not placeholder and not (root / span).exists():
            yield f"path {span}"


def missing_names(page: Path) -> Iterator[str]:
    for span in spans(page.read_text(encoding="utf-8")):
        if (match := _NAME.fullmatch(span)) and not _resolves(match[1]):
            yield f"name {match[1]}"


def _resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def command_lines(text: str) -> list[str]:
    fenced = (line for block in _FENCED.findall(text) for line in block.splitlines())
    return [line for line in (*spans(text), *fenced) if re.match(r"podweave [^=]", line)]


def wrong_command(line: str) -> str | None:
    """What is wrong with ``podweave COMMAND ...``, of which arguments may be left out, but none may be unknown."""
    _, name, *rest = shlex.split(re.sub(r"[][]", " ", line))
    if name.startswith("-"):
        return None if name in ("--help", "--version") else f"there is no option {name}"
    if name not in COMMANDS:
        return f"there is no command {name}"
    parameters = COMMANDS[name].params
    options = {opt: p for p in parameters if p.param_type_name == "option" for opt in (*p.opts, *p.secondary_opts)}
    arguments: list[str] = []
    left = [word for word in rest if word != "..."]
    while left:
        word = left.pop(0)
        if not word.startswith("-"):
            arguments.append(word)
            continue
        if word not in options:
            return f"{name} has no option {word}"
        elif options[word].is_flag:
            continue
        if not left or (left[0].startswith("-") and left[0] != "-"):
            return f"{name} {word} takes a value"
        value = left.pop(0)
        if word == "--config" and not _is_config(value):
            return f"there is no preset {value}"
    takes = [p for p in parameters if p.param_type_name == "argument"]
    if len(arguments) > len(takes) and not any(p.nargs == -1 for p in takes):
        return f"{name} takes no argument {arguments[-1]}"
    return next(filter(None, (_wrong_argument(name, argument) for argument in arguments)), None)


def _is_config(text: str) -> bool:
    return text in preset_names() or text.endswith(".toml") or bool(_PLACEHOLDER.fullmatch(text))


def _wrong_argument(name: str, first: str) -> str | None:
    proven = [each.name for each in (*PROPERTIES, *EQUIVALENCES)]
    known = {
        "bench": (*BENCHES, "all"),
        "study": STUDY_NAMES,
        "prove": [*proven, *(each.partition(".")[0] for each in proven)],
    }
    if name in known and first not in known[name] and not _PLACEHOLDER.fullmatch(first):
        return f"there is no {name} {first}"
    if name in ("generate", "ip", "area") and not _is_config(first):
        return f"there is no preset {first}"
    return None


def wrong_commands(page: Path) -> Iterator[str]:
    text = page.read_text(encoding="utf-8")
    for line in command_lines(text):
        if wrong := wrong_command(line):
            yield f"{line}: {wrong}"
    every = {opt for command in COMMANDS.values() for p in command.params for opt in (*p.opts, *p.secondary_opts)}
    for span in spans(text):
        option = span.split()[0] if span.strip() else ""
        if option.startswith("--") and option not in every:
            yield f"no command has an option {option}"


@pytest.mark.parametrize("page", [str(page.relative_to(ROOT)) for page in pages(ROOT)])
def test_what_a_page_speaks_of_exists(page: str) -> None:
    file = ROOT / page
    assert _FENCED.sub("", file.read_text(encoding="utf-8")).count("`") % 2 == 0, "a backtick without its partner"
    assert [*broken_links(file), *missing_paths(file, ROOT), *missing_names(file), *wrong_commands(file)] == []


def rooms_of(text: str) -> dict[str, tuple[list[str], list[str]]]:
    """By room of a table of rooms: what it imports, and its places in order."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for row in text.splitlines():
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if (match := re.fullmatch(r"`(\w+)`", cells[0])) and match[1] in ALLOWED and len(cells) == 5:
            below = list(found) if cells[2] == "all above" else [name for name in cells[2].split(", ") if name != "-"]
            found[match[1]] = (below, re.findall(r"`([\w/]+)`", cells[4]))
    return found


def wrong_rooms(text: str) -> list[str]:
    """What a table of rooms says other than `tests/import_rules.py`; places that do not exist yet have no row there."""
    rooms = rooms_of(text)
    wrong = [f"{room} imports {below}" for room, (below, _) in rooms.items() if sorted(below) != sorted(BELOW[room])]
    wrong += [f"there is no room {room}" for room in ALLOWED if room not in rooms]
    for room, (_, places) in rooms.items():
        for place, below in INSIDE.items():
            # Of a folder in a folder the page may say no more than its own name.
            names = [next((n for n in (p.partition("/")[2], p.rpartition("/")[2]) if n in places), "") for p in (place, *below)]
            if place.startswith(f"{room}/") and "" not in names and any(places.index(n) > places.index(names[0]) for n in names):
                wrong.append(f"{place} stands before what it imports")
    return wrong


def test_the_table_of_rooms_is_that_of_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert wrong_rooms(text) == []
    assert wrong_rooms(text.replace("| ir, spec | numpy | `jobs`", "| ir | numpy | `jobs`")) == ["compiler imports ['ir']"]
    assert wrong_rooms(text.replace("`parts`, `pod`, `post`", "`pod`, `parts`, `post`")) == [
        "rtl/pod stands before what it imports"
    ]
    assert wrong_rooms(text.replace("| `synth` |", "| synth |"))[-1] == "there is no room synth"


def test_there_is_something_to_look_at() -> None:
    texts = [page.read_text(encoding="utf-8") for page in pages(ROOT)]
    assert sum(len(_LINK.findall(text)) for text in texts) > 50
    assert sum(bool(_PATH.fullmatch(span)) for text in texts for span in spans(text)) > 150
    assert sum(len(command_lines(text)) for text in texts) > 40


PAGE = "# A page\n\n## Time, and jobs\n\n[here](#time-and-jobs), [there](b.md#a-b)\n\n## Again\n\n## Again\n\n[second](#again-1)\n"


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("[x](c.md)", "link to c.md"),
        ("[x](../docs/c.svg)", "link to ../docs/c.svg"),
        ("[x](#times)", "link to #times: no such heading"),
        ("[x](b.md#time-and-jobs)", "link to b.md#time-and-jobs: no such heading"),
        ("![x](c.png)", "link to c.png"),
        ("`rtl/pod/nothing.py`", "path rtl/pod/nothing.py"),
        ("`tests/nothing`", "path tests/nothing"),
        ("`podweave.driver.Device`", "name podweave.driver.Device"),
        ("`podweave.device.Device(bus)`", "name podweave.device.Device"),
        ("`podweave fly`", "podweave fly: there is no command fly"),
        ("`podweave run gemm:1x1x1 --fast`", "podweave run gemm:1x1x1 --fast: run has no option --fast"),
        ("`podweave run\n... --seed`", "podweave run ... --seed: run --seed takes a value"),
        ("`podweave run x --config pod5`", "podweave run x --config pod5: there is no preset pod5"),
        ("`podweave area pod5`", "podweave area pod5: there is no preset pod5"),
        ("`podweave area pod4 pod8`", "podweave area pod4 pod8: area takes no argument pod8"),
        ("`podweave prove job_queue dishes`", "podweave prove job_queue dishes: there is no prove dishes"),
        ("`podweave bench dishes`", "podweave bench dishes: there is no bench dishes"),
        ("`podweave --fly`", "podweave --fly: there is no option --fly"),
        ("```\npodweave study nothing\n```", "podweave study nothing: there is no study nothing"),
        ("`--fast 3`", "no command has an option --fast"),
    ],
)
def test_planted_faults_are_found(tmp_path: Path, fault: str, found: str) -> None:
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "docs" / "b.md").write_text("# A-B!\n\n# A B\n", encoding="utf-8")
    page = tmp_path / "docs" / "a.md"
    assert pages(tmp_path) == [tmp_path / "docs" / "b.md"]
    for text, expected in ((PAGE, []), (f"{PAGE}\n{fault}\n", [found])):
        page.write_text(text, encoding="utf-8")
        assert [*broken_links(page), *missing_paths(page, tmp_path), *missing_names(page), *wrong_commands(page)] == expected


@pytest.mark.parametrize(
    "line",
    [
        "podweave presets --json -",
        "podweave run ... --no-prefetch --memory latency=200,beat_sixteenths=32",
        "podweave area pod32 [--liberty FILE] [--flow plain]",
        "podweave run --seed N",
        "podweave generate CONFIG -o DIR",
        "podweave --version",
    ],
)
def test_legal_lines_are_not_refused(line: str) -> None:
    assert wrong_command(line) is None
