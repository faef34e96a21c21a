"""Rings of descriptors, in memory and in the order in which a run goes over them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.jobs import pack_jobs
from podweave.golden.cycle.prefetch.words import NOP, Descriptor
from podweave.spec.descriptors import DESCRIPTOR_BYTES, descriptor_layout

RING_BASES = (0x1000, 0x2000)
"""Rings lie in the first 16 KiB of memory; stores go behind them, into the second half of it."""


def published(ring: list[Descriptor], body: tuple[int, int], passes: int) -> list[Descriptor]:
    """Descriptors of a ring in the order in which a run of so many passes goes over them."""
    begin, end = body
    return ring[:begin] + (passes - 1) * ring[begin:end] + ring[end:] if begin else ring


def with_bodies(
    rng: np.random.Generator, rings: tuple[list[Descriptor], list[Descriptor]], epochs: int
) -> tuple[tuple[list[Descriptor], list[Descriptor]], dict[str, Any]]:
    """Rings whose middle is for several passes: all that is of the epochs from some one on, until as many are over again."""
    passes, stride = int(rng.integers(1, 5)), int(rng.integers(0, 9)) * 8
    first = int(rng.integers(1, epochs + 1))
    found, bodies = [], []
    for ring in rings:
        begin = next(i for i, d in enumerate(ring) if d.tag == first)
        end = next((i for i, d in enumerate(ring) if d.tag == first + 1), len(ring))
        body = [dataclasses.replace(d, moves=int(d.kind != NOP and rng.random() < 0.4)) for d in ring[begin:end]]
        body[-1] = dataclasses.replace(body[-1], turns=1)
        behind = [dataclasses.replace(d, tag=d.tag - 1, after=max(0, d.after - 1)) for d in ring[end:]]
        behind.append(Descriptor(tag=behind[-1].tag + 1 if behind else first, last=1))
        found.append(ring[:begin] + body + behind)
        bodies.append((begin, end))
    turns = {"passes": passes, "pass_epochs": 1, "pass_stride": stride, "bodies": (bodies[0], bodies[1])}
    return (found[0], found[1]), turns


def on_a_base(rng: np.random.Generator, descriptor: Descriptor, bases: tuple[int, ...]) -> Descriptor:
    """The same transfer, by way of any base register or none."""
    number = int(rng.integers(0, len(bases) + 1))
    if descriptor.kind == NOP or not number:
        return descriptor
    return dataclasses.replace(descriptor, base_register=number, address=descriptor.address - bases[number - 1])


def pack_descriptors(descriptors: list[Descriptor]) -> NDArray[np.uint8]:
    """(n, 64) bytes."""
    fields = [field.name for field in descriptor_layout().fields]
    columns = {
        name: np.array([getattr(d, name, d.reserved if name == "reserved0" else 0) for d in descriptors], np.int64)
        for name in fields
    }
    return pack_jobs(descriptor_layout(), columns)


def put_rings(memory: NDArray[np.uint8], rings: tuple[list[Descriptor], list[Descriptor]]) -> None:
    """Both rings at their places in memory."""
    for base, descriptors in zip(RING_BASES, rings, strict=True):
        memory[base : base + DESCRIPTOR_BYTES * len(descriptors)] = pack_descriptors(descriptors).reshape(-1)
