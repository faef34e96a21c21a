"""What `podweave run` and `podweave model` do: which way, with what options, and how it is shown."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from podweave.compiler.memory.ahead import loaded_tensors, tensor_ratios
from podweave.ir.frontends.onnx import is_model_file, load_network
from podweave.ir.frontends.onnx_rows import is_row_file, row_file
from podweave.ir.graph import Graph
from podweave.ir.row_graph import RowGraph
from podweave.ir.texts import whole_number
from podweave.predict.memory_timing import HbmTiming
from podweave.spec.config import ChipConfig

from ..reports.accelerator import print_device_model, print_device_run
from ..reports.chip import print_chip_model, print_chip_run
from .beside import Beside

if TYPE_CHECKING:
    from podweave.compiler.compile_network import CheckRules, CompiledNetwork

_DECIMAL = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")
WAYS = ("axi", "backdoor", "port")
Progress = Callable[[str], None]
Show = Callable[[Console, dict[str, Any]], None]


@dataclass(frozen=True)
class ChipOptions:
    """``through``: how a chip gets what it needs: over AXI, in no time, or through its load ports.

    ``rules``: when programs are checked. ``scalesim``: reports are written as SCALE-Sim does. ``ratios``: ``prefetch_ratios`` of
    `CompileOptions`. ``images``: of a stream. ``batch``: of them at a time. ``inputs``, ``beside``: a network of a file runs on
    those of another, and is held against others. ``alone``: each layer with weights by itself, without what is added to it.
    """

    per_layer: bool
    partition: int | None
    through: str
    prefetch: bool
    cap: int
    timing: HbmTiming
    plot: Path | None
    rules: CheckRules
    scalesim: bool = False
    ratios: Mapping[str, float] = field(default_factory=dict)
    images: int | None = None
    batch: int | None = None
    inputs: Path | None = None
    beside: Beside = field(default_factory=Beside)
    alone: bool = False

    @classmethod
    def of(
        cls,
        config: ChipConfig,
        per_layer: bool,
        partition: int | None,
        through: str | None,
        prefetch: bool,
        cap: int,
        memory: str | None,
        plot: Path | None,
        ratios: Sequence[str] | None = None,
        *,
        alone: bool = False,
        rules: bool = False,
        scalesim: bool = False,
        images: int | None = None,
        batch: int | None = None,
        inputs: Path | None = None,
        beside: Beside | None = None,
    ) -> ChipOptions:
        """From what was typed; raises `typer.BadParameter`."""
        if alone and per_layer:
            raise typer.BadParameter("is without what is added to layers; --per-layer is with it", param_hint="--layers-alone")
        apart = "--per-layer" if per_layer else "--layers-alone" if alone else ""
        if through is None:
            through = "axi" if config.prefetch and not apart else "backdoor"
        if through not in WAYS:
            raise typer.BadParameter(f"{through!r} is not one of {', '.join(WAYS)}", param_hint="--through")
        if through == "axi" and not config.prefetch:
            raise typer.BadParameter(
                f"axi needs a chip with prefetch engines; {config.name} has no table [prefetch]", param_hint="--through"
            )
        if through == "axi" and apart:
            raise typer.BadParameter(f"axi runs whole networks: leave out {apart}, or name one layer", param_hint="--through")
        if through != "axi":
            over_axi = {
                "--memory": memory,
                "--cap": cap,
                "--no-prefetch": not prefetch,
                "--prefetch-ratio": ratios,
                "--images": images,
            }
            for name, given in over_axi.items():
                if given:
                    raise typer.BadParameter(f"is for runs over AXI, not {through}", param_hint=name)
        if plot and plot.suffix not in (".svg", ".png", ".pdf"):
            raise typer.BadParameter(f"{plot} must end in .svg, .png or .pdf", param_hint="--plot")
        checked: CheckRules = "always" if rules else "auto"
        if ratios and not prefetch:
            raise typer.BadParameter("without prefetch nothing is loaded ahead of its epoch", param_hint="--prefetch-ratio")
        if batch and not images:
            raise typer.BadParameter("is of a stream: give --images too", param_hint="--batch")
        found, timing = prefetch_ratios(ratios or []), memory_timing(memory)
        return cls(
            *(per_layer, partition, through, prefetch, cap, timing, plot, checked, scalesim, found, images, batch),
            inputs=inputs,
            beside=beside or Beside(),
            alone=alone,
        )

    def check(self, graph: Graph) -> None:
        """Raises `typer.BadParameter` for ways in which a graph does not run, `WorkloadError` for ratios of tensors that it has
        not."""
        tensor_ratios(self.ratios, loaded_tensors(graph), graph.name)
        if not isinstance(graph, RowGraph):
            return
        if self.through != "axi":
            raise typer.BadParameter(f"{graph.name} has operations on rows, which run over AXI only", param_hint="--through")
        if self.partition is not None:
            raise typer.BadParameter(f"is of layers; {graph.name} has operations on rows", param_hint="--partition")
        if self.scalesim:
            raise typer.BadParameter(f"are of layers; {graph.name} has operations on rows", param_hint="--scalesim-reports")
        if self.images:
            raise typer.BadParameter(f"are for networks of layers; {graph.name} has operations on rows", param_hint="--images")

    def device(self) -> dict[str, Any]:
        """What an accelerator takes of them, in a run and in the model."""
        memory = {"timing": self.timing, "prefetch": self.prefetch, "cap": self.cap}
        return {**memory, "partition": self.partition, "prefetch_ratios": self.ratios}

    def check_batch(self, workload: str) -> None:
        """Raises `typer.BadParameter` for a batch of a network that has one of its own."""
        if self.batch and is_model_file(workload):
            raise typer.BadParameter("is for workloads: a file says itself how many images it takes", param_hint="--batch")

    def check_plot(self, graphs: int) -> None:
        if self.plot and graphs > 1:
            raise typer.BadParameter("a picture shows one network, or one layer: name it as NETWORK/LAYER", param_hint="--plot")


def simulation_settings(waves: Path | None, waves_of: list[str] | None, threads: int | None) -> dict[str, Any]:
    """Members of a `Simulation`, from what was typed; raises `typer.BadParameter`."""
    from podweave.tb.build.make import cores

    if waves_of and not waves:
        raise typer.BadParameter("says what --waves shows: give both", param_hint="--waves-of")
    return {"waves": waves and waves.resolve(), "waves_of": waves_of or [], "threads": threads or cores()}


def prefetch_ratios(texts: Sequence[str]) -> dict[str, float]:
    """The ratios that ``R`` or ``PATTERN=R`` say, by pattern; raises `typer.BadParameter`."""
    found: dict[str, float] = {}
    for text in texts:
        pattern, equals, number = text.rpartition("=")
        pattern = pattern if equals else "*"
        if not pattern or not _DECIMAL.fullmatch(number) or float(number) > 1:
            raise typer.BadParameter(f"{text!r} is not R or PATTERN=R with an R from 0 to 1", param_hint="--prefetch-ratio")
        if pattern in found:
            raise typer.BadParameter(f"{pattern!r} is given more than once", param_hint="--prefetch-ratio")
        found[pattern] = float(number)
    return found


def memory_timing(text: str | None) -> HbmTiming:
    """The memory that ``NAME=NUMBER,...`` describes."""
    try:
        return HbmTiming(**named_numbers(text, [field.name for field in dataclasses.fields(HbmTiming)], "--memory"))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--memory") from error


def named_numbers(text: str | None, names: Sequence[str], option: str) -> dict[str, Any]:
    """What ``NAME=NUMBER,...`` says of some ``names``, in ``option``; raises `typer.BadParameter`."""
    found: dict[str, Any] = {}
    for part in text.split(",") if text else []:
        name, _, digits = part.strip().partition("=")
        value = whole_number(digits)
        if name not in names or value is None:
            raise typer.BadParameter(f"{part!r} is not NAME=NUMBER with a name of {', '.join(names)}", param_hint=option)
        if name in found:
            raise typer.BadParameter(f"{name!r} is given more than once", param_hint=option)
        found[name] = value
    return found


def run_chip(
    workload: str, config: ChipConfig, options: ChipOptions, *, seed: int, progress: Progress, **simulation: Any
) -> tuple[dict[str, Any], Show]:
    """Run in RTL; the report, and how to show it. ``simulation``: members of a `Simulation`."""
    from podweave.compiler.fits import require_fits

    from ..encoders.files import row_file_jobs
    from ..runs.accelerator import AcceleratorWay, run_on_device
    from ..runs.chip import ChipWay, run_networks
    from ..runs.jobs import chip_graphs, chip_jobs, stream_job
    from ..runs.larger import advising
    from ..runs.model_files import file_job
    from ..runs.road import compile_jobs
    from .model_files import require_whole, with_file

    require_whole(workload, options.per_layer or options.alone, options.images, options.inputs, options.beside)
    named = chip_graphs(workload, per_layer=options.per_layer, alone=options.alone)
    options.check_plot(len(named))
    # At once, and before there are constants that no machine could hold.
    for graph in named:
        require_fits(graph, config, from_memory=options.through == "axi")
        options.check(graph)
    options.check_batch(workload)
    if is_model_file(workload):
        jobs = [file_job(load_network(workload), config, seed, images=options.images, inputs=options.inputs)]
    elif is_row_file(workload) and not options.images:
        jobs = row_file_jobs(workload, config, seed, options.inputs)
    elif options.images:
        jobs = [stream_job(workload, options.images, seed, batch=options.batch, scale_bits=config.scale_bits)]
    else:
        apart = {"per_layer": options.per_layer, "alone": options.alone}
        jobs = chip_jobs(workload, seed, **apart, scale_bits=config.scale_bits)
    graphs = len({id(job.graph) for job in jobs})
    way = AcceleratorWay if options.through == "axi" else ChipWay
    advised = advising(lambda larger: compile_jobs(jobs, way(larger, partition=options.partition), progress), config, progress)
    if options.through == "axi":
        with advised:
            report, _, compiled = run_on_device(
                jobs,
                config,
                **options.device(),
                check=options.rules,
                seed=seed,
                progress=progress,
                **simulation,
            )
        _draw_device(compiled[0], options)
        return with_file(
            workload, config, jobs[0], report, print_device_run, beside=options.beside, inputs=options.inputs, progress=progress
        )
    options.check_plot(len(jobs))
    with advised:
        report, _, networks = run_networks(
            jobs,
            config,
            through=options.through,
            seed=seed,
            partition=options.partition,
            check=options.rules,
            progress=progress,
            **simulation,
        )
    _draw_chip(networks[0].program, options)
    show = partial(print_chip_run, tables=1 if graphs == 1 else None)
    report |= _left_out(workload, options)
    return with_file(workload, config, jobs[0], report, show, beside=options.beside, inputs=options.inputs, progress=progress)


def model_chip(workload: str, config: ChipConfig, options: ChipOptions, *, progress: Progress) -> tuple[dict[str, Any], Show]:
    """Predict without RTL; the report, and how to show it."""
    from podweave.compiler.fits import require_fits

    from ..encoders.files import fitted_rows
    from ..runs.accelerator import model_on_device
    from ..runs.chip import model_networks
    from ..runs.jobs import chip_graphs, stream_graph
    from ..runs.larger import advising
    from ..runs.model_files import fitted

    options.check_batch(workload)
    held = fitted(load_network(workload).constants, config) if is_model_file(workload) else None
    if is_row_file(workload):
        held = fitted_rows(row_file(workload), config)
    apart = {"per_layer": options.per_layer, "alone": options.alone}
    graphs = [stream_graph(workload)] if options.images else chip_graphs(workload, **apart)
    options.check_plot(len(graphs))
    for graph in graphs:
        require_fits(graph, config, from_memory=options.through == "axi")
        options.check(graph)
    if options.through == "axi":

        def on_device(chosen: ChipConfig) -> tuple[dict[str, Any], list[CompiledNetwork]]:
            images, batch = options.images, options.batch
            return model_on_device(
                graphs, chosen, **options.device(), images=images, batch=batch, constants=held, progress=progress
            )

        with advising(on_device, config, progress):
            report, compiled = on_device(config)
        _draw_device(compiled[0], options)
        return report, print_device_model
    on_chip = partial(model_networks, graphs, partition=options.partition, progress=progress)
    with advising(on_chip, config, progress):
        report, networks = on_chip(config)
    _draw_chip(networks[0].program, options)
    return report | _left_out(workload, options), print_chip_model


def _left_out(workload: str, options: ChipOptions) -> dict[str, str]:
    """What layers alone are without."""
    from ..runs.workloads import load_layers

    return {"left_out": load_layers(workload).left_out} if options.alone else {}


def _draw_chip(program: Any, options: ChipOptions) -> None:
    if options.plot:
        from ..pictures.chip import draw_chip

        draw_chip(program, options.plot)


def _draw_device(compiled: Any, options: ChipOptions) -> None:
    if options.plot:
        if compiled.rows:
            from ..pictures.rows import draw_rows as draw
        else:
            from ..pictures.accelerator import draw_accelerator as draw

        draw(compiled, options.timing, options.plot, prefetch=options.prefetch, cap=options.cap)
