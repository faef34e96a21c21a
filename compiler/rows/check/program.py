"""Holds programs of rows against the rules of the hardware: what sets an error bit, or reads a word that is not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...chip.check.activations import check_swaps
from ...chip.check.fields import check_engines, check_values
from ...chip.check.sums import check_accumulators
from ...pod.executor import ProgramError
from ..program import RowProgram
from .banks import check_p_banks, check_row_networks, check_stored, check_x_banks
from .fields import check_loaded, check_row_addresses, check_row_values
from .registers import check_registers
from .state import State
from .view import Owners, RowView


def check_rows(programs: Sequence[RowProgram], tables: int, progress: Callable[[int], None] | None = None) -> None:
    """Raises `ProgramError` for the first rule that the programs of the epochs of a graph break, with the epoch, the job, the cycle
    and the place.

    ``tables``: activation tables that are loaded before the first epoch. ``progress``: is told the number of each epoch.

    Beyond what sets an error bit: a word is written before it is read, and not written over until somebody has read it; an
    operation reads what it or an operation whose tensor it reads has made, in banks and in row registers; what is loaded is loaded
    before it is used, and stays as long; what goes into memory is what it is taken for. Each tile of a job over several is held
    against the rules as a job of its own.
    """
    state = State(programs[0].config, Owners.of(programs[0]))
    for epoch, program in enumerate(programs):
        if progress:
            progress(epoch)
        try:
            _check_epoch(epoch, program, state, tables)
        except ProgramError as error:
            raise ProgramError(f"epoch {epoch}: {error}") from None


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
