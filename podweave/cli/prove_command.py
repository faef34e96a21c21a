"""The command that proves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..program import EXIT_CODES
from ..reports.formal import print_proofs, proofs_page
from .finish import finish
from .options import JsonFile
from .progress import Progress
from .targets import make_folders


def prove(
    names: Annotated[list[str] | None, typer.Argument(help="Properties, or blocks; all by default.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Properties at a time; by default one on each core.")] = None,
    timeout: Annotated[int, typer.Option(min=1, help="Seconds that an engine may take for one model.")] = 600,
    page: Annotated[Path | None, typer.Option(help="Also write the tables of docs/proofs.md, in Markdown.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Prove the contracts of blocks, and find the faults that are planted into them (docs/proofs.md)."""
    from podweave.formal.catalogue import select
    from podweave.formal.prove import prove_all

    chosen = select(names or [])
    make_folders(page, json_file)
    with Progress() as progress:
        report = prove_all(chosen, jobs=jobs, timeout=timeout, progress=progress)
    if page:
        page.write_text(proofs_page(report), encoding="utf-8")
    finish(report, json_file, print_proofs)
    sys.exit(EXIT_CODES[report["verdict"]])
