"""Holds what engines do with X banks against the epochs beside which they may do it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from podweave.spec.descriptors import DescriptorKind
from podweave.spec.load_port import HostSelect

from ..chip.check.beside import Transfer, check_beside
from ..chip.epoch_program import EpochProgram
from ..jobs import Jobs
from ..rows.program import ChipEpoch
from .image import MemoryImage


def check_engines(image: MemoryImage, programs: Sequence[ChipEpoch]) -> None:
    """Raises `ProgramError` for a descriptor that the rules of `check_beside` forbid. ``programs``: of all epochs."""
    if image.config.memory.x_parts == 1:
        return
    # What comes behind another pass, and before one, is in three.
    passes = min(3, image.passes)
    layers = [program if isinstance(program, EpochProgram) else None for program in programs] * passes
    for warm in (False, True) if image.may_stay else (False,):
        check_beside(layers, _transfers(image, warm=warm, passes=passes), image.config)


def _transfers(image: MemoryImage, *, warm: bool, passes: int) -> list[Transfer]:
    """What the engines do in a run."""
    transfers, per = [], image.config.nodes_per_manager
    for manager, rings in enumerate(zip(*image.rings(warm=warm), strict=True)):
        for which, ring in enumerate(rings):
            order, turns = ring.order(passes)
            fields = {name: values[order] for name, values in ring.fields.items()}
            for name in ("tag", "after"):
                fields[name] = fields[name] + turns * image.epochs
            moves = (fields["kind"] != DescriptorKind.NOP) & (fields["select"] == HostSelect.X)
            for index in np.flatnonzero(moves).tolist():
                one = {name: int(values[index]) for name, values in fields.items()}
                # Without ``beside`` it waits for the epoch before its own.
                after = one["after"] if one["beside"] else max(one["after"], one["tag"])
                is_load = one["kind"] == DescriptorKind.LOAD
                for unit in range(per) if one["broadcast"] else (one["unit"],):
                    where = manager * per + unit, _words(fields, index), is_load
                    transfers.append(Transfer(*where, (manager, which), index, one["tag"], after))
    return transfers


def _words(fields: Jobs, index: int) -> NDArray[np.int64]:
    """Words on the chip that a descriptor moves."""
    found, back = np.array([fields["base"][index]], np.int64), 0
    for loop in range(3):
        count, step = int(fields[f"n{loop}"][index]), int(fields[f"step{loop}"][index])
        found = (np.arange(count)[:, None] * (step + back) + found).reshape(-1)
        back += (count - 1) * (step + back)
    return found
