"""Files that commands write beside their reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from podweave.spec.config import ChipConfig


def check_plot(plot: Path | None, option: str = "--plot") -> None:
    """Raises `typer.BadParameter` for a picture that cannot be drawn."""
    if plot and plot.suffix not in (".svg", ".png", ".pdf"):
        raise typer.BadParameter(f"{plot} must end in .svg, .png or .pdf", param_hint=option)


def make_folders(*files: Path | None) -> None:
    """Of what a command will write, before the work: a simulator that cannot open its waveform says nothing."""
    for file in files:
        if file and file != Path("-"):
            file.parent.mkdir(parents=True, exist_ok=True)


def write_scalesim(report: dict[str, Any], config: ChipConfig, folder: Path | None) -> None:
    if folder:
        from ..reports.scalesim import write_scalesim_reports

        write_scalesim_reports(report, config, folder)
