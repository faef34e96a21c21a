"""Holds what engines do with X banks against the epochs beside which they may do it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from podweave.spec.descriptors import DescriptorKind, memory_stride
from podweave.spec.load_port import HostSelect

from ..chip.check.beside import Access, Transfer, check_beside, check_stored
from ..chip.epoch_program import EpochProgram
from ..jobs import Jobs
from ..rows.program import ChipEpoch
from .image import MemoryImage


def check_engines(image: MemoryImage, programs: Sequence[ChipEpoch]) -> None:
    """Raises `ProgramError` for a descriptor that the rules of `check_beside` forbid, and for a load beside an epoch of bytes that
    may be stored later. ``programs``: of all epochs."""
    if image.config.memory.x_parts == 1:
        return
    # What comes behind another pass, and before one, is in three.
    passes = min(3, image.passes)
    layers = [program if isinstance(program, EpochProgram) else None for program in programs] * passes
    for warm in (False, True) if image.may_stay else (False,):
        check_beside(layers, _transfers(image, warm=warm, passes=passes), image.config)
        for manager in range(image.config.managers):
            _check_stored(image, manager, warm=warm, passes=passes)


def _check_stored(image: MemoryImage, manager: int, *, warm: bool, passes: int) -> None:
    """What is loaded beside epochs is there: nothing of it is stored behind those that are done, up to the load's own."""
    loads, stores = list[Access](), list[Access]()
    stride = memory_stride(image.config, HostSelect.X)
    for which, rings in enumerate(image.rings(warm=warm)):
        order, turns = rings[manager].order(passes)
        fields = {name: values[order] for name, values in rings[manager].fields.items()}
        for name in ("tag", "after"):
            fields[name] = fields[name] + turns * image.epochs
        is_store = fields["kind"] == DescriptorKind.STORE
        is_load = (fields["kind"] == DescriptorKind.LOAD) & (fields["beside"] == 1)
        for index in np.flatnonzero((fields["select"] == HostSelect.X) & (is_store | is_load)).tolist():
            addresses = _addresses(fields, index, int(turns[index]) * image.pass_bytes, stride)
            one = Access(addresses, (manager, which), index, int(fields["tag"][index]), int(fields["after"][index]))
            (stores if is_store[index] else loads).append(one)
    check_stored(loads, stores)


def _addresses(fields: Jobs, index: int, turned: int, stride: int) -> NDArray[np.int64]:
    """First bytes of the words that a descriptor moves, in order; ``turned``: what turns add, ``stride``: from word to word."""
    one = {name: int(fields[name][index]) for name in ("address", "moves", "n0", "n1", "n2", "stride1", "stride2")}
    starts = one["address"] + turned * one["moves"] + np.arange(one["n1"]) * one["stride1"]
    back = (one["n1"] - 1) * one["stride1"]
    starts = (np.arange(one["n2"])[:, None] * (one["stride2"] + back) + starts).reshape(-1)
    return np.unique(starts[:, None] + np.arange(one["n0"]) * stride)


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
