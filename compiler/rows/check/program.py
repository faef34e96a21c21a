"""Holds programs of rows against the rules of the hardware: what sets an error bit, or reads a word that is not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ...chip.check.activations import check_swaps
from ...chip.check.fields import check_engines, check_values
from ...chip.check.sums import check_accumulators
from ...chip.epoch_program import EpochProgram
from ...collective.program import CollectiveProgram
from ...jobs import ProgramError
from ..program import ChipEpoch, RowProgram
from .banks import check_p_banks, check_row_networks, check_stored, check_x_banks
from .collectives import check_collective
from .fields import check_loaded, check_row_addresses, check_row_values
from .layers import check_layers
from .registers import check_registers
from .state import State
from .view import Owners, RowView

Kind = TypeVar("Kind", EpochProgram, RowProgram)
_WORD, _JOB = 1.3e-7, 1.5e-6
"""Seconds that checks take per word and per job, measured where scheduling ResNet-50 takes 6 s."""
_EPOCH = 4e-3
"""Seconds per epoch of rows."""


def check_rows(
    programs: Sequence[ChipEpoch],
    tables: int,
    progress: Callable[[int], None] | None = None,
    images: Mapping[str, str] | None = None,
) -> None:
    """Raises `ProgramError` for the first rule that the programs of the epochs of a graph break, with the epoch, the job, the cycle
    and the place.

    ``tables``: activation tables that are loaded before the first epoch. ``progress``: is told the number of each epoch.
    ``images``: as `check_layers` takes it, if there are layers.

    Beyond what sets an error bit: a word is written before it is read, and not written over until somebody has read it; an
    operation reads what it or an operation whose tensor it reads has made, in banks and in row registers; what is loaded is loaded
    before it is used, and stays as long; what goes into memory is what it is taken for. Each tile of a job over several is held
    against the rules as a job of its own.
    """
    (rows, *_), layers = _of(RowProgram, programs), _of(EpochProgram, programs)
    names = tuple(operation.name for operation in layers[0].graph.operations) if layers else ()
    state = State(rows.config, Owners.of(rows.graph, names))
    for epoch, program in enumerate(programs):
        if progress:
            progress(epoch)
        try:
            if isinstance(program, RowProgram):
                _check_epoch(epoch, program, state, tables)
            elif isinstance(program, CollectiveProgram):
                check_collective(program, state)
            else:
                check_layers(program, state, images or {})
        except ProgramError as error:
            raise ProgramError(f"epoch {epoch}: {error}") from None


def check_seconds(programs: Sequence[ChipEpoch]) -> float:
    """What it takes to check programs, those of layers alone among them."""
    computed = [program for program in programs if not isinstance(program, CollectiveProgram)]
    words = sum(int(program.words_streamed.sum() + program.words_read.sum()) for program in computed)
    tables = [table for program in computed for table in (program.loads, program.streams)]
    jobs = sum(int(table["tiles"].sum()) for table in tables) + sum(len(program.posts["start"]) for program in computed)
    return _WORD * words + _JOB * jobs + _EPOCH * sum(isinstance(program, RowProgram) for program in computed)


def _of(kind: type[Kind], programs: Sequence[ChipEpoch]) -> list[Kind]:
    return [program for program in programs if isinstance(program, kind)]


def _check_epoch(epoch: int, program: RowProgram, state: State, tables: int) -> None:
    stored = RowView.of(program)
    check_values(stored)
    check_row_values(stored)
    state.load(epoch, program)
    view = RowView.tile_by_tile(program)
    check_row_addresses(view)
    check_engines(view)
    check_loaded(view, state, epoch, tables)
    check_row_networks(view)
    check_swaps(view)
    check_accumulators(view)
    check_registers(view, state)
    check_p_banks(view, state)
    check_x_banks(view, state)
    check_stored(program, state)
