"""What `podweave fuzz` does: random cases by seed, or one that failed again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..program import EXIT_CODES
from ..reports.fuzz import print_campaign, print_replay
from .finish import finish
from .options import JsonFile
from .progress import Progress
from .targets import make_folders

ALL = "all"


def fuzz(
    minutes: Annotated[float, typer.Option(min=0, help="No case is begun after so many.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The cases of a seed are always the same ones.")] = 0,
    kind: Annotated[
        str,
        typer.Option(
            metavar="KIND,...|all",
            help="Of chip, accelerator, llm, chips, onnx, attention, config, csv and axi; each gets as much time.",
        ),
    ] = ALL,
    jobs: Annotated[int | None, typer.Option(min=1, max=256, help="Processes; by default one for each core.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Results, and cases that failed. By default fuzz-SEED; goes on from there."
        ),
    ] = None,
    cases: Annotated[int | None, typer.Option(min=1, help="Of a kind, at most.")] = None,
    replay: Annotated[Path | None, typer.Option(metavar="FILE", help="Run a failing case again, instead.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Run random networks, files and configurations in RTL, exact in bits and cycles; what fails is made small.

    Exit code 0 if nothing failed, 1 if something did, 2 if nothing ran.
    """
    from podweave.tb.build.make import cores

    from ..fuzz.campaign import Campaign
    from ..fuzz.kinds import KINDS
    from ..fuzz.replay import replay_file

    make_folders(json_file)
    if replay:
        with Progress() as progress:
            report = replay_file(replay, progress)
        finish(report, json_file, print_replay)
        raise typer.Exit(EXIT_CODES[report["verdict"]])
    kinds = list(KINDS) if kind == ALL else list(dict.fromkeys(kind.split(",")))
    for name in kinds:
        if name not in KINDS:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join([*KINDS, ALL])}", param_hint="--kind")
        # What it needs is there, or a sentence says what is not.
        _ = KINDS[name].run
    folder = output or Path(f"fuzz-{seed}")
    with Progress() as progress:
        campaign = Campaign(kinds, seed, minutes, folder, jobs or cores(), cases)
        report = campaign.run(progress)
    finish(report, json_file, print_campaign)
    raise typer.Exit(EXIT_CODES[report["verdict"]])
