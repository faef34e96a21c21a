"""The command line: thin commands over the functions that do the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from podweave import __version__
from podweave.spec.config_parts import ConfigError
from podweave.spec.presets import load_config, preset_names
from podweave.synth.flows import DEFAULT_FLOW, FLOWS

from ..program import EXIT_CODES, prepare_cache, program
from ..reports.area import print_area, print_network_table
from ..reports.tables import print_bench, print_presets
from .beside import Beside
from .chat_command import chat
from .finish import finish
from .fuzz_command import fuzz
from .options import (
    Batch,
    Beneath,
    CalibrateFirst,
    Cap,
    Check,
    Chips,
    Compare,
    Config,
    Context,
    Divide,
    FloatFile,
    HostOps,
    Images,
    Inputs,
    JsonFile,
    Labels,
    LayersAlone,
    Links,
    Memory,
    Partition,
    PerLayer,
    Plot,
    PlotSqnr,
    Prefetch,
    PrefetchRatio,
    Rows,
    ScalesimReports,
    Sizes,
    Skew,
    Threads,
    Through,
    WavesOf,
    Workload,
)
from .progress import Progress
from .prove_command import prove
from .quantise_command import quantise
from .targets import check_plot, make_folders, write_scalesim

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__, rich_markup_mode=None)
REPEAT = 3
CHECKS = ("result", "rules")


@app.command()
def presets(json_file: JsonFile = None) -> None:
    """List the configurations that come with podweave."""
    report = {"presets": {name: load_config(name).to_dict() for name in preset_names()}}
    finish(report, json_file, print_presets)


@app.command()
def generate(
    config: Annotated[str, typer.Argument(help="A preset, or a TOML file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the Verilog, .vlt and JSON files.")],
    prefix: Annotated[str, typer.Option(help="What names of modules and files begin with; without it, they are plain.")] = "",
) -> None:
    """Emit Verilog, a Verilator control file and a JSON description of ports and layouts."""
    from podweave.rtl.accelerator.emit import emit

    chosen = load_config(config)
    with Progress() as progress:
        progress(f"emitting {chosen.name}")
        emitted = emit(chosen, prefix=prefix)
    for path in emitted.write(output):
        print(path)


@app.command()
def ip(
    config: Annotated[str, typer.Argument(help="A preset, or a TOML file, with a table [prefetch].")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the IP.")],
    prefix: Annotated[
        str | None, typer.Option(help="What names of modules, files and in C begin with.", show_default="name of the configuration")
    ] = None,
) -> None:
    """Write an accelerator as an IP block: Verilog, FuseSoC core, C header, registers, ports and constraints."""
    from ..ip.write import write_ip

    chosen = load_config(config)
    if chosen.prefetch is None:
        raise ConfigError(f"an IP block needs prefetch engines: {chosen.name} has no table [prefetch]")
    with Progress() as progress:
        progress(f"emitting {chosen.name}")
        paths = write_ip(chosen, output, prefix=prefix)
    for path in paths:
        print(path)


@app.command()
def run(
    workload: Workload,
    config: Config,
    check: Check = "result",
    seed: Annotated[int, typer.Option(help="Seed of the random operands and of the initial state.")] = 0,
    waves: Annotated[Path | None, typer.Option(help="Write a VCD waveform (slow; for short runs).")] = None,
    waves_of: WavesOf = None,
    threads: Threads = None,
    rows: Rows = None,
    context: Context = None,
    per_layer: PerLayer = False,
    layers_alone: LayersAlone = False,
    partition: Partition = None,
    through: Through = None,
    prefetch: Prefetch = True,
    prefetch_ratio: PrefetchRatio = None,
    cap: Cap = 0,
    images: Images = None,
    batch: Batch = None,
    size: Sizes = None,
    host_ops: HostOps = False,
    calibrate: CalibrateFirst = None,
    inputs: Inputs = None,
    compare: Compare = False,
    float_file: FloatFile = None,
    labels: Labels = None,
    plot_sqnr: PlotSqnr = None,
    memory: Memory = None,
    chips: Chips = None,
    links: Links = None,
    skew: Skew = None,
    beneath: Beneath = True,
    divide: Divide = None,
    plot: Plot = None,
    scalesim_reports: ScalesimReports = None,
    json_file: JsonFile = None,
) -> None:
    """Compile a workload, run it in RTL, and compare results and cycles. Exit code 0 only if both are exact; 1 if not; 2 without a
    verdict.

    A network runs as a whole, or each of its layers by itself (--per-layer, --layers-alone); several chips in a ring share one
    (--chips).
    """
    from ..runs.workloads import with_options, with_sizes
    from .chip_commands import ChipOptions, run_chip, simulation_settings
    from .quantised_first import quantised_first
    from .system_commands import SystemOptions

    if check not in CHECKS:
        raise typer.BadParameter(f"{check!r} is not one of {', '.join(CHECKS)}", param_hint="--check")
    if seed < 0:
        raise typer.BadParameter(f"{seed} is negative", param_hint="--seed")
    if waves and waves.suffix != ".vcd":
        raise typer.BadParameter(f"{waves} must end in .vcd", param_hint="--waves")
    chosen = load_config(config)
    system = SystemOptions.of(chosen, chips, links, skew, beneath, divide)
    workload = with_sizes(with_options(workload, {"rows": rows, "context": context}), size, host_ops=host_ops)
    make_folders(waves, plot, json_file)
    scalesim, rules = scalesim_reports is not None, check == "rules"
    given = per_layer, partition, through, prefetch, cap, memory, plot, prefetch_ratio
    options = ChipOptions.of(
        *(chosen, *given),
        alone=layers_alone,
        rules=rules,
        scalesim=scalesim,
        images=images,
        batch=batch,
        inputs=inputs,
        beside=Beside.of(compare, float_file, labels, plot_sqnr, inputs),
    )
    with Progress() as progress, quantised_first(workload, calibrate, seed, progress) as made:
        settings = simulation_settings(waves, waves_of, threads)
        way = system.run if system else run_chip
        report, show = made.beside(*way(made.workload, chosen, options, seed=seed, progress=progress, **settings))
    write_scalesim(report, chosen, scalesim_reports)
    finish({"workload": workload, **report}, json_file, show)
    raise typer.Exit(EXIT_CODES[report["verdict"]])


@app.command()
def model(
    workload: Workload,
    config: Config,
    rows: Rows = None,
    context: Context = None,
    per_layer: PerLayer = False,
    layers_alone: LayersAlone = False,
    partition: Partition = None,
    through: Through = None,
    prefetch: Prefetch = True,
    prefetch_ratio: PrefetchRatio = None,
    cap: Cap = 0,
    images: Images = None,
    batch: Batch = None,
    size: Sizes = None,
    host_ops: HostOps = False,
    calibrate: CalibrateFirst = None,
    memory: Memory = None,
    chips: Chips = None,
    links: Links = None,
    skew: Skew = None,
    beneath: Beneath = True,
    divide: Divide = None,
    plot: Plot = None,
    scalesim_reports: ScalesimReports = None,
    json_file: JsonFile = None,
) -> None:
    """The cycles and utilisation of a workload from the exact model, without RTL."""
    from ..runs.workloads import with_options, with_sizes
    from .chip_commands import ChipOptions, model_chip
    from .quantised_first import quantised_first
    from .system_commands import SystemOptions

    chosen = load_config(config)
    system = SystemOptions.of(chosen, chips, links, skew, beneath, divide)
    workload = with_sizes(with_options(workload, {"rows": rows, "context": context}), size, host_ops=host_ops)
    make_folders(plot, json_file)
    given = per_layer, partition, through, prefetch, cap, memory, plot, prefetch_ratio
    options = ChipOptions.of(chosen, *given, alone=layers_alone, scalesim=scalesim_reports is not None, images=images, batch=batch)
    with Progress() as progress, quantised_first(workload, calibrate, 0, progress) as made:
        way = system.model if system else model_chip
        report, show = made.beside(*way(made.workload, chosen, options, progress=progress))
    write_scalesim(report, chosen, scalesim_reports)
    finish({"workload": workload, **report}, json_file, show)


@app.command()
def area(
    config: Annotated[str, typer.Argument(help="A preset, or a TOML file.")],
    block: Annotated[str | None, typer.Option(help="Only this block (module or kind) and what it holds.")] = None,
    liberty: Annotated[Path | None, typer.Option(help="Liberty file to map to; podweave's gate equivalents by default.")] = None,
    flow: Annotated[str, typer.Option(help=f"{'; '.join(f'{name}: {text}' for name, text in FLOWS.items())}.")] = DEFAULT_FLOW,
    networks: Annotated[
        bool, typer.Option("--networks", help="Networks as shares of pod area instead, for 16, 64 and 256 pods like these.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Yosys area per block, and the ratio per multiplier to a bare registered MAC; of chips, also per network."""
    from podweave.rtl.accelerator.emit import emit
    from podweave.synth.area import area_report
    from podweave.synth.network_table import network_table

    chosen = load_config(config)
    if networks:
        if block:
            raise typer.BadParameter("is not for a table of networks", param_hint="--block")
        with Progress() as progress:
            table = network_table(chosen, liberty=liberty, flow=flow, progress=progress)
        finish({"config": chosen.name, **table}, json_file, print_network_table)
        return
    with Progress() as progress:
        progress(f"emitting {chosen.name}")
        report = area_report(emit(chosen), block=block, liberty=liberty, flow=flow, progress=progress)
    finish({"config": chosen.name, **report}, json_file, print_area)


@app.command()
def bench(
    name: Annotated[
        str, typer.Argument(help="start, emit, build, simulation, model, or all of them; compile, chip, bus or links (minutes).")
    ],
    repeat: Annotated[int | None, typer.Option(min=1, help=f"Runs of each; the median is reported. By default {REPEAT}.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure the speed of emission, build and simulation on stated presets, or the use of a data bus, or of links."""
    from ..bench.speed import BENCHES, ONCE, run_bench

    if name != "all" and name not in BENCHES:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join([*BENCHES, 'all'])}", param_hint="NAME")
    if repeat and name in ONCE:
        raise typer.BadParameter(f"is not for {name}, which is measured once", param_hint="--repeat")
    with Progress() as progress:
        report = run_bench(name, repeat or REPEAT, progress)
    finish(report, json_file, print_bench)


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="granularity, interconnect, partition, banks, throughput, prefetch or decode.")],
    networks: Annotated[str | None, typer.Option(help="Names with commas between, or all; by default the study's own.")] = None,
    pods: Annotated[int | None, typer.Option(help="Pods of the chip; of granularity, at most that many.")] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Throughput: beside it, that with the memory in the loop.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; by default one for each core.")] = None,
    dask: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Compute on the cluster of this Dask scheduler.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--fresh", help="Take points that were computed before; or compute all.")] = True,
    plot: Annotated[Path | None, typer.Option(help="Draw it (.svg, .png or .pdf); a folder gets study_NAME.svg.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Sweeps by the exact model, beside the published values of others. An interrupted one goes on where it was."""
    from ..studies.run import STUDY_NAMES, run_study
    from ..studies.tables import print_study

    if name not in STUDY_NAMES:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(STUDY_NAMES)}", param_hint="NAME")
    if dask and jobs:
        raise typer.BadParameter("is for processes here; those of --dask ADDRESS are its workers", param_hint="--jobs")
    if plot and plot.is_dir():
        plot = plot / f"study_{name}.svg"
    check_plot(plot)
    make_folders(plot, json_file)
    with Progress() as progress:
        report = run_study(
            name, networks=networks, pods=pods, memory=memory, jobs=jobs, cluster=dask, fresh=not resume, progress=progress
        )
    if plot:
        from ..pictures.studies import draw_study

        draw_study(report, plot)
    finish(report, json_file, print_study)


app.command()(chat)
app.command()(prove)
app.command()(fuzz)
app.command()(quantise)


def _version(show: bool) -> None:
    if show:
        print(f"podweave {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """podweave: generate, run, verify and measure scale-out systolic accelerators."""
    if context.invoked_subcommand not in ("presets", "model"):
        prepare_cache()


def main() -> None:
    """Run the command line."""
    with program():
        app()
