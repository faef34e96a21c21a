"""What `podweave run` and `podweave model` do with several chips in a ring (``--chips``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from podweave.ir.partition import partition
from podweave.ir.partition_rows import partition_rows
from podweave.ir.row_graph import RowGraph
from podweave.ir.texts import whole_number
from podweave.predict.link_timing import LinkTiming
from podweave.spec.config import ChipConfig
from podweave.spec.presets import load_config, preset_names

from ..reports.system import print_system_model, print_system_run
from .chip_commands import ChipOptions, Progress, Show, named_numbers

if TYPE_CHECKING:
    from ..runs.system import SystemNetwork, SystemWay

DIVISIONS = {"channels": partition, "rows": partition_rows}
_RATES = ("latency", "beat_sixteenths", "jitter", "seed")
_MOST_CYCLES = 2**20
"""Of ``--skew``."""


@dataclass(frozen=True)
class SystemOptions:
    """``delays``: cycles by which each chip starts later. ``divide``: a key of `DIVISIONS`. The rest as `SystemWay` takes it."""

    chips: int
    link: LinkTiming
    delays: tuple[int, ...]
    beneath: bool
    divide: str

    @classmethod
    def of(
        cls, config: ChipConfig, chips: int | None, links: str | None, skew: str | None, beneath: bool, divide: str | None
    ) -> SystemOptions | None:
        """From what was typed, None without ``--chips``; raises `typer.BadParameter`."""
        if chips is None:
            for name, given in {"--links": links, "--skew": skew, "--no-beneath": not beneath, "--divide": divide}.items():
                if given:
                    raise typer.BadParameter("is for several chips: give --chips too", param_hint=name)
            return None
        if config.links is None:
            having = ", ".join(name for name in preset_names() if load_config(name).links)
            raise typer.BadParameter(f"{config.name} has no table [links]; presets that have one: {having}", param_hint="--chips")
        divide = divide or "channels"
        if divide not in DIVISIONS:
            raise typer.BadParameter(f"{divide!r} is not one of {', '.join(DIVISIONS)}", param_hint="--divide")
        return cls(chips, link_timing(links), start_delays(skew, chips), beneath, divide)

    def run(
        self, workload: str, config: ChipConfig, options: ChipOptions, *, seed: int, progress: Progress, **simulation: Any
    ) -> tuple[dict[str, Any], Show]:
        """Run in RTL; the report, and how to show it. ``simulation``: members of a `Simulation`."""
        from podweave.tb.benches.system_bench import MOST_CHIPS

        from ..runs.jobs import chip_jobs
        from ..runs.system import run_on_system

        if self.chips > MOST_CHIPS:
            raise typer.BadParameter(
                f"{self.chips} chips are more than RTL is simulated of ({MOST_CHIPS}): podweave model predicts them",
                param_hint="--chips",
            )
        graph = self._graph(workload, config, options)
        for operation in graph.operations:
            operation.require_values_fit()
        way = self._way(config, options)
        jobs = chip_jobs(workload, seed, scale_bits=config.scale_bits)
        report, _, (network,) = run_on_system(jobs, way, seed=seed, progress=progress, **simulation)
        _draw(network, way, options)
        return report, print_system_run

    def model(self, workload: str, config: ChipConfig, options: ChipOptions, *, progress: Progress) -> tuple[dict[str, Any], Show]:
        """Predict without RTL; the report, and how to show it."""
        from ..runs.system import model_on_system

        graph, way = self._graph(workload, config, options), self._way(config, options)
        report, network = model_on_system(graph, way, progress)
        _draw(network, way, options)
        return report, print_system_model

    def _graph(self, workload: str, config: ChipConfig, options: ChipOptions) -> RowGraph:
        """What a workload names, if so many chips can share it: known at once, and before there are constants."""
        from podweave.compiler.fits import require_fits

        from ..runs.jobs import chip_graphs, model_constants
        from ..runs.system import require_rows

        if not self.beneath and not options.prefetch:
            raise typer.BadParameter("without prefetch there is none in collectives either", param_hint="--no-beneath")
        unfit: Mapping[str, Any] = {
            "--per-layer": options.per_layer,
            "--through": options.through != "axi",
            "--partition": options.partition is not None,
            "--scalesim-reports": options.scalesim,
            "--images": options.images,
        }
        for name, given in unfit.items():
            if given:
                raise typer.BadParameter("is for one chip: leave out --chips", param_hint=name)
        (graph,) = chip_graphs(workload)
        found = require_rows(graph)
        options.check(found)
        first, *_ = self._divide(found, model_constants(found), self.chips).shares
        require_fits(first.graph, config)
        return found

    @property
    def _divide(self) -> Callable[..., Any]:
        return DIVISIONS[self.divide]

    def _way(self, config: ChipConfig, options: ChipOptions) -> SystemWay:
        from ..runs.system import SystemWay

        return SystemWay(
            config,
            self.chips,
            timing=options.timing,
            link=self.link,
            delays=self.delays,
            prefetch=options.prefetch,
            beneath=self.beneath,
            cap=options.cap,
            prefetch_ratios=options.ratios,
            divide=self._divide,
            check=options.rules,
        )


def link_timing(text: str | None) -> LinkTiming:
    """The links that ``NAME=NUMBER,...`` describes."""
    try:
        return LinkTiming(**named_numbers(text, _RATES, "--links"))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--links") from error


def start_delays(text: str | None, chips: int) -> tuple[int, ...]:
    """The cycles that ``C,C,...`` says, one number for each chip."""
    if text is None:
        return (0,) * chips
    found = [whole_number(part.strip()) for part in text.split(",")]
    if len(found) != chips or any(cycles is None or cycles > _MOST_CYCLES for cycles in found):
        raise typer.BadParameter(
            f"{text!r} is not a number of cycles, at most {_MOST_CYCLES:,}, for each of {chips} chips, with commas between",
            param_hint="--skew",
        )
    return tuple(cycles for cycles in found if cycles is not None)


def _draw(network: SystemNetwork, way: SystemWay, options: ChipOptions) -> None:
    if options.plot:
        from ..pictures.system import draw_system

        draw_system(network.chips, options.plot, **way.settings)
