"""ONNX files in floating point, quantised before they run, in a folder that goes when the run is over."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from podweave.ir.frontends.onnx import HOST_OPS, is_model_file

from ..encoders.files import is_transformer, quantise_transformer
from ..language.quantise import Recipe
from ..reports.model_files import print_quantised_file
from ..runs.float_files import FileRecipe, quantise_file, random_arrays

RANDOM = "random"
"""In the place of a file with inputs."""
Show = Callable[[Console, dict[str, Any]], None]


class QuantisedFirst:
    """What a run is on, and what was said when it was quantised; ``report``: None if it is as it was typed."""

    def __init__(self, workload: str, report: dict[str, Any] | None = None):
        self.workload, self.report = workload, report

    def beside(self, report: dict[str, Any], show: Show) -> tuple[dict[str, Any], Show]:
        """The report of the run with that of the quantisation, and how both are shown."""
        if self.report is None:
            return report, show

        def show_both(console: Console, found: dict[str, Any]) -> None:
            print_quantised_file(console, found["quantised"])
            show(console, found)

        return report | {"quantised": self.report}, show_both


@contextmanager
def quantised_first(workload: str, calibrate: str | None, seed: int, progress: Callable[[str], None]) -> Iterator[QuantisedFirst]:
    """A workload as it was typed, or, with ``--calibrate``, quantised by those inputs, or by random ones.

    Raises `typer.BadParameter` for what is no ONNX file, or needs real inputs; `WorkloadError` as quantising does.
    """
    if calibrate is None:
        yield QuantisedFirst(workload)
        return
    if not is_model_file(workload):
        raise typer.BadParameter(f"is for ONNX files in floating point, and {workload} is none", param_hint="--calibrate")
    name, *options = workload.split(",")
    path, host_ops = Path(name), HOST_OPS in options
    sizes = [option for option in options if option != HOST_OPS]
    with tempfile.TemporaryDirectory(prefix="podweave-quantised-") as folder:
        if is_transformer(path):
            if calibrate == RANDOM:
                raise typer.BadParameter(f"{path} is a transformer, and needs inputs (.npz)", param_hint="--calibrate")
            made = Path(folder) / f"{path.stem}.rows"
            report = quantise_transformer(path, made, Path(calibrate), None, Recipe(), accuracy=True, progress=progress)
            found = ",".join([str(made), *sizes])
        else:
            made, given = Path(folder) / f"{path.stem}.onnx", Path(calibrate)
            if calibrate == RANDOM:
                given = Path(folder) / "random.npz"
                random_arrays(",".join([name, *sizes]), given, seed)
            ways = {"accuracy": True, "host_ops": host_ops}
            report = quantise_file(",".join([name, *sizes]), made, given, None, FileRecipe(), **ways, progress=progress)
            found = ",".join([str(made), *([HOST_OPS] if host_ops else [])])
        yield QuantisedFirst(found, report | {"file": name, "calibrated_on": calibrate})
