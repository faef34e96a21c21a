"""What a network of an ONNX file is held against, beside the golden model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import typer

from .targets import check_plot


def refuse_for_others(model: str, options: Mapping[str, object]) -> None:
    """Raises `typer.BadParameter` for options that were given, and are for ONNX files only."""
    for option in [option for option, given in options.items() if given]:
        raise typer.BadParameter(f"is for ONNX files, and {model} is none", param_hint=option)


@dataclass(frozen=True)
class Beside:
    """``compare``: onnxruntime, layer by layer. ``plain``: the file in floating point. ``labels``: what inputs are. ``picture``: of
    ``compare``."""

    compare: bool = False
    plain: Path | None = None
    labels: Path | None = None
    picture: Path | None = None

    @classmethod
    def of(cls, compare: bool, plain: Path | None, labels: Path | None, picture: Path | None, inputs: Path | None) -> Beside:
        """From what was typed; raises `typer.BadParameter`."""
        check_plot(picture, "--plot-sqnr")
        if picture and not compare:
            raise typer.BadParameter("is of --compare", param_hint="--plot-sqnr")
        for option, given in {"--float": plain, "--labels": labels}.items():
            if given and not inputs:
                raise typer.BadParameter("is for inputs of the user: give --inputs", param_hint=option)
        return cls(compare, plain, labels, picture)
