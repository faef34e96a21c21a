"""Versions of sources: what was made of them is kept until one of their files changes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from pathlib import Path


def sources_hash(folders: Iterable[Path], *, without: Collection[Path] = ()) -> str:
    """A hash of every Python file of some folders and of the folders in them, by its place and content.

    ``without``: files, or folders with all that they hold, that do not count.
    """
    digest = hashlib.sha256()
    for folder in folders:
        digest.update(f"{folder.name}\n".encode())
        for file in sorted(folder.rglob("*.py")):
            if file not in without and not any(above in without for above in file.parents):
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                digest.update(f"{file.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()
