"""What reading a file of anybody's may take, and how files are damaged."""

from __future__ import annotations

import contextlib
import io
import resource
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import strategies as st

from podweave.program import for_users

MOST_BYTES = 3 << 30
"""Of memory, beside what there is."""
MOST_SECONDS = 30


def said(read: Any, *arguments: Any) -> str:
    """What a user is told by a reader, "" if it takes what it is given. It ends in time, and its memory is limited.

    Whatever else is raised, leaves this, as a test that fails.
    """
    with _bounded():
        try:
            read(*arguments)
        except for_users() as error:
            sentence = str(error)
            assert sentence
            assert "Traceback" not in sentence
            return sentence
    return ""


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it takes more than {MOST_SECONDS} s")

    handler = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


_NUMBERS = [b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\1" + b"\0" * 7]
_TEXTS = """" [ ] { } , = \n \0 -1 1e999 nan null true [] {} "" \'\'\' # ; \t 0x10 0 4294967296 99999999999999999999 \\u0000 💥"""
_WORDS = [b"\xff\xfe", b"\n", b"\t", b"\0", *(each.encode() for each in _TEXTS.split(" "))]


Edit = tuple[str, int, int, bytes]
"""What is done, where, over how many bytes, and with which others."""


def damaged(size: int) -> st.SearchStrategy[list[Edit]]:
    """Edits of a file of so many bytes: some are others, left out, put in, twice, or all behind a place is gone."""
    most = max(0, size - 1)
    # What says how the rest is to be read, stands in front.
    at = st.one_of(st.integers(0, min(most, 3000)), st.integers(0, most))
    piece = st.one_of(st.sampled_from(_NUMBERS), st.sampled_from(_WORDS), st.binary(min_size=1, max_size=9))
    what = st.sampled_from(["over", "over", "in", "out", "twice", "cut", "bit"])
    return st.lists(st.tuples(what, at, st.sampled_from([1, 1, 2, 4, 8, 40, 1000]), piece), min_size=1, max_size=4)


def with_edits(content: bytes, edits: list[Edit]) -> bytes:
    for what, at, length, piece in edits:
        match what:
            case "over":
                content = content[:at] + piece + content[at + len(piece) :]
            case "in":
                content = content[:at] + piece + content[at:]
            case "out":
                content = content[:at] + content[at + length :]
            case "twice":
                content = content[: at + length] + content[at:]
            case "cut":
                content = content[:at]
            case "bit":
                content = content[:at] + bytes(byte ^ (1 << length % 8) for byte in content[at : at + 1]) + content[at + 1 :]
    return content


def damaged_inside(size: int) -> st.SearchStrategy[tuple[str, int, int, list[Edit]]]:
    """What is done to the members of a zip file, so that every checksum is right: to which, with which other, and edits of one."""
    what = st.sampled_from(["content", "content", "content", "gone", "other"])
    return st.tuples(what, st.integers(0, 99), st.integers(0, 99), damaged(size))


def with_edits_inside(content: bytes, way: tuple[str, int, int, list[Edit]]) -> bytes:
    what, one, other, edits = way
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = sorted(members)
    # What says how the others are to be read is damaged as often as all of those.
    name = "about.npy" if one % 2 and "about.npy" in members else names[one % len(names)]
    if what == "content":
        members[name] = with_edits(members[name], edits)
    elif what == "gone":
        del members[name]
    else:
        members[name] = members[names[other % len(names)]]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for each, inside in members.items():
            archive.writestr(each, inside)
    return made.getvalue()
