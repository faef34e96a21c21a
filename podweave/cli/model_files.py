"""What `podweave run` does with ONNX files beside running them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from podweave.ir.frontends.onnx import is_model_file, load_network
from podweave.ir.frontends.onnx_rows import is_row_file
from podweave.spec.config import ChipConfig

from ..encoders.files import is_transformer, quantise_transformer
from ..language.quantise import Recipe
from ..reports.model_files import print_comparison
from ..runs.agreement import agreement, require_plain
from ..runs.calibration import Method
from ..runs.float_files import FileRecipe, quantise_file
from ..runs.jobs import Job
from ..runs.model_files import keeps_numbers
from ..runs.oracle import compare_file
from ..runs.workloads import with_sizes
from .beside import Beside
from .progress import Progress
from .targets import check_plot, make_folders

Show = Callable[[Console, dict[str, Any]], None]


def require_whole(workload: str, per_layer: bool, images: int | None, inputs: Path | None, beside: Beside) -> None:
    """Raises `typer.BadParameter` for what is not for a workload, or only for ONNX files; `WorkloadError` for a file in floating
    point that is not that of the network."""
    if is_model_file(workload):
        if per_layer:
            raise typer.BadParameter("a network of a file runs as a whole, with its own constants", param_hint="--per-layer")
        if inputs and images:
            raise typer.BadParameter("images are those of --inputs: leave out --images", param_hint="--images")
        if beside.plain:
            # Here, since a run may take long.
            require_plain(load_network(workload), Path(workload.partition(",")[0]), beside.plain)
        return
    for name, given in {"--compare": beside.compare, "--inputs": inputs}.items():
        if given and not (inputs and is_row_file(workload)):
            raise typer.BadParameter(f"is for ONNX files, and {workload} is none", param_hint=name)


def with_file(
    workload: str,
    config: ChipConfig,
    job: Job,
    report: dict[str, Any],
    show: Show,
    *,
    beside: Beside,
    inputs: Path | None,
    progress: Callable[[str], None],
) -> tuple[dict[str, Any], Show]:
    """The report of a run with what an ONNX file adds to it, and how both are shown; of other workloads, as they are."""
    if not is_model_file(workload):
        return report, show
    network = load_network(workload)
    report = report | {"numbers": keeps_numbers(network, config), "on_host": list(network.on_host)}
    if beside.compare:
        progress("comparing with onnxruntime")
        path = Path(workload.partition(",")[0])
        report["onnxruntime"] = compare_file(network, path, job.constants, job.feeds, config.rounding)
    if inputs and (beside.plain or beside.labels):
        progress("comparing classes")
        report["agreement"] = agreement(
            network, Path(workload.partition(",")[0]), job.constants, config.rounding, inputs, beside.plain, beside.labels
        )
    if beside.picture:
        from ..pictures.sqnr import draw_sqnr

        make_folders(beside.picture)
        draw_sqnr(
            report["onnxruntime"]["layers"], f"{network.graph.name}: each layer beside onnxruntime, on its inputs", beside.picture
        )

    def show_both(console: Console, found: dict[str, Any]) -> None:
        print_comparison(console, found)
        show(console, found)

    return report, show_both


@dataclass(frozen=True)
class FileOptions:
    """How an ONNX file is quantised, as it was typed; ``picture``: of SQNR; ``blank``: of texts, a class."""

    method: str
    equalise: bool
    correct_biases: bool
    accuracy: bool
    picture: Path | None
    host_ops: bool
    multiplier_bits: int
    int16_inputs: list[str]
    blank: int | None = None


def quantise_network(
    model: str, output: Path, calibrate: Path | None, judged: Path | None, size: list[str] | None, options: FileOptions
) -> dict[str, Any]:
    """Quantise an ONNX file; raises `typer.BadParameter` for what was typed wrong."""
    picture = options.picture
    check_plot(picture, "--plot-sqnr")
    if calibrate is None:
        raise typer.BadParameter("an ONNX file needs some of its inputs (.npz)", param_hint="--calibrate")
    path = Path(model.partition(",")[0])
    rows = is_transformer(path)
    suffix = ".rows" if rows else ".onnx"
    if output.suffix != suffix:
        what = ", since this file is a transformer" if rows else ""
        raise typer.BadParameter(f"{output} must end in {suffix}{what}", param_hint="--output")
    if rows:
        ways = {"--method": options.method != "absmax", "--equalise": options.equalise, "--correct-biases": options.correct_biases}
        ways["--int16-input"] = bool(options.int16_inputs)
        others = {"--plot-sqnr": picture, "--size": size, "--host-ops": options.host_ops, "--ctc-blank": options.blank is not None}
        for option in [option for option, given in (ways | others).items() if given]:
            raise typer.BadParameter(f"is for networks of layers, and {path} is a transformer", param_hint=option)
    for option, given in {"--plot-sqnr": picture, "--ctc-blank": options.blank is not None}.items():
        if given and not options.accuracy:
            raise typer.BadParameter("is of the accuracy, which --no-accuracy leaves out", param_hint=option)
    recipe = FileRecipe(Method.of(options.method), options.equalise, options.correct_biases, tuple(options.int16_inputs))
    model = with_sizes(model, size)
    make_folders(output, picture)
    with Progress() as progress:
        if rows:
            of_rows = Recipe(multiplier_bits=options.multiplier_bits)
            report = quantise_transformer(path, output, calibrate, judged, of_rows, accuracy=options.accuracy, progress=progress)
        else:
            ways = {"accuracy": options.accuracy, "host_ops": options.host_ops}
            report = quantise_file(model, output, calibrate, judged, recipe, **ways, blank=options.blank, progress=progress)
    if picture:
        from ..pictures.sqnr import draw_sqnr

        draw_sqnr(report["accuracy"]["layers"], f"{report['model']}: integers beside floating point, on their own results", picture)
    return report
