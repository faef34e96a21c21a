"""Random graphs of operations on rows: whatever the rules allow, on few channels."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, cast

import numpy as np

from podweave.ir.constants import Constants, Parameters
from podweave.ir.frontends.random_rows import random_row_inputs, random_row_parameters
from podweave.ir.row_graph import RowGraph, verify_rows
from podweave.ir.row_operations import (
    Append,
    Argmax,
    Attention,
    Format,
    Gelu,
    LayerNorm,
    Product,
    RmsNorm,
    Rope,
    RowLinear,
    RowOperation,
    SiluProduct,
)

from ..runs.jobs import Job
from .choices import Choices

REGISTERS = 16
"""Of the chip."""


class RandomRows:
    """A graph in the making; ``seed``: another one for each. ``rng``: what decides, in place of the seed."""

    narrow = 0.2
    """How many linear operations read int8."""

    def __init__(self, seed: int, rng: Choices | None = None):
        self.rng = rng or Choices([seed, 77])
        self.seed = seed
        self.rows = int(self.rng.choice([1, 1, 2, 3, 5, 9, 17]))
        self.inputs: dict[str, tuple[int, int, int, int]] = {}
        self.formats: dict[str, Format] = {}
        self.operations: list[RowOperation] = []
        self.channels: dict[str, tuple[Format, int]] = {}
        """Tensors of ``rows`` rows that may be read."""
        self.lengths: dict[str, int] = {}
        """Inputs that say how many keys rows see, and how many there are at least."""
        self.registers = 0
        """Lengths that nodes hold."""

    def any(self, form: Format, channels: int | None = None) -> str | None:
        names = [name for name, (f, c) in self.channels.items() if f is form and channels in (None, c)]
        return str(self.rng.choice(names)) if names else None

    def number(self, *choices: int) -> int:
        return int(self.rng.choice(choices))

    def input(self, form: Format, channels: int, rows: int | None = None) -> str:
        name = f"in{len(self.inputs)}"
        self.inputs[name] = (1, 1, rows or self.rows, channels)
        self.formats[name] = form
        return name

    def source(self, form: Format) -> str:
        """A tensor that is there, or a new input."""
        found = self.any(form)
        if found is None or self.rng.random() < 0.15:
            found = self.input(form, self.number(4, 6, 8, 11, 16, 20, 26))
            self.channels[found] = form, self.inputs[found][3]
        return found

    def add(self, operation: RowOperation) -> str:
        self.operations.append(operation)
        self.channels[operation.name] = operation.format, operation.channels
        return operation.name

    @property
    def name(self) -> str:
        return f"t{len(self.operations)}"

    def linear(self, form: Format | None = None, outputs: int | None = None) -> str:
        source = self.source(Format.INT8 if self.rng.random() < self.narrow else Format.INT16)
        form = form or Format(self.rng.choice([f.value for f in (Format.INT8, Format.INT16, Format.INT16, Format.WIDE)]))
        outputs = outputs or self.number(3, 4, 8, 10, 13, 16, 24)
        add = None
        if form is Format.WIDE and self.rng.random() < 0.7:
            add = self.any(Format.INT16 if self.rng.random() < 0.4 else Format.WIDE)
            if add:
                outputs = self.channels[add][1]
        made = RowLinear(self.name, self.rows, source=source, width=self.channels[source][1], outputs=outputs, form=form, add=add)
        if add:
            del self.channels[add]
        return self.add(made)

    def norm(self) -> str:
        if self.registers == REGISTERS:
            return self.linear()
        self.registers += 1
        source = self.source(Format.WIDE)
        kind = LayerNorm if self.rng.random() < 0.6 else RmsNorm
        sizes: dict[str, Any] = {
            "width": self.channels[source][1],
            "scale_shift": self.number(2, 7, 13),
            "epsilon": self.number(0, 3, 1000),
        }
        return self.add(kind(self.name, self.rows, source=source, **sizes))

    def product(self) -> str:
        gate = self.source(Format.INT16)
        up = self.any(Format.INT16, self.channels[gate][1])
        if self.rng.random() < 0.6:
            outputs = self.number(4, 10, 20)
            gate, up = self.linear(Format.INT16, outputs), self.linear(Format.INT16, outputs)
        assert up is not None
        return self.add(
            SiluProduct(self.name, self.rows, gate=gate, up=up, width=self.channels[gate][1], fraction=self.number(4, 11, 15))
        )

    def gelu(self) -> str:
        gate = self.linear(Format.INT16) if self.rng.random() < 0.6 else self.source(Format.INT16)
        return self.add(Gelu(self.name, self.rows, gate=gate, width=self.channels[gate][1], fraction=self.number(4, 11, 15)))

    def multiply(self) -> str:
        left = self.linear(Format.INT16) if self.rng.random() < 0.4 else self.source(Format.INT16)
        width, rows = self.channels[left][1], self.rows
        if self.rng.random() < 0.5:
            rows, right = 1, self.input(Format.INT16, width, 1)
        else:
            right = str(self.any(Format.INT16, width))
        return self.add(Product(self.name, self.rows, left=left, right=right, width=width, right_rows=rows))

    def argmax(self) -> str:
        """Nobody reads it, so that it is an output."""
        if self.registers == REGISTERS:
            return self.linear()
        self.registers += 1
        source = self.source(Format.WIDE)
        self.operations.append(Argmax(self.name, self.rows, source=source, width=self.channels[source][1]))
        return self.operations[-1].name

    def rope(self, heads: int | None = None, size: int | None = None, form: Format = Format.INT16) -> str:
        heads, size = heads or self.number(1, 2, 3), size or self.number(2, 4, 6, 8)
        source = self.any(Format.INT16, heads * size)
        if source is None or self.rng.random() < 0.5:
            source = self.linear(Format.INT16, heads * size)
        angles = [name for name, f in self.formats.items() if f is Format.ANGLES and self.inputs[name][2:] == (self.rows, size)]
        chosen = str(self.rng.choice(angles)) if angles and self.rng.random() < 0.7 else self.input(Format.ANGLES, size)
        return self.add(Rope(self.name, self.rows, source=source, angles=chosen, heads=heads, head_size=size, form=form))

    def attention(self) -> str:
        kv, group, size = self.number(1, 2, 3), self.number(1, 2), self.number(2, 4, 6, 12)
        # Rows of heads that share keys have a register each, and a length.
        group = group if group * self.rows <= REGISTERS else 1
        if self.registers + group * self.rows > REGISTERS:
            return self.linear()
        self.registers += group * self.rows
        context = self.rows + self.number(0, 1, 4, 13, 30)
        cached = []
        for _ in range(2):
            cache = self.input(Format.INT8, kv * size, context)
            if self.rng.random() < 0.5:
                source = self.rope(kv, size, Format.INT8) if self.rng.random() < 0.5 else self.linear(Format.INT8, kv * size)
                position = int(self.rng.integers(context - self.rows + 1))
                self.operations.append(
                    Append(self.name, self.rows, source=source, cache=cache, width=kv * size, context=context, position=position)
                )
                cache = self.operations[-1].name
            cached.append(cache)
        heads = kv * group
        if self.rng.random() < 0.5:
            query = self.rope(heads, size)
        else:
            query = self.linear(Format.INT16, heads * size)
        same = [name for name, c in self.lengths.items() if c <= context and self.inputs[name][3] == self.rows]
        lengths = None
        if self.rng.random() < 0.7:
            lengths = str(self.rng.choice(same)) if same and self.rng.random() < 0.5 else self.input(Format.LENGTHS, self.rows, 1)
            self.lengths.setdefault(lengths, context)
        sizes: dict[str, Any] = {"context": context, "heads": heads, "kv_heads": kv, "head_size": size}
        return self.add(Attention(self.name, self.rows, query=query, key=cached[0], value=cached[1], lengths=lengths, **sizes))

    def job(self) -> Job:
        kinds = [self.linear, self.norm, self.product, self.gelu, self.multiply, self.argmax, self.rope, self.attention]
        for _ in self.rng.among(1, 2, 4, 7):
            kinds[self.rng.choice(8, p=[0.2, 0.15, 0.15, 0.1, 0.1, 0.1, 0.1, 0.1])]()
        outputs = tuple(name for name in self.channels if name not in self.inputs and self.rng.random() < 0.3)
        read = {source for operation in self.operations for source in operation.sources}
        outputs += tuple(o.name for o in self.operations if o.name not in (*read, *outputs) and not isinstance(o, Append))
        graph = verify_rows(RowGraph(f"rows{self.seed}", self.inputs, tuple(self.operations), outputs, formats=self.formats))
        inputs = random_row_inputs(graph, self.seed)
        for name, context in self.lengths.items():
            inputs[name] = self.rng.integers(1, context + 1, inputs[name].shape).astype(np.int32)
        for name, form in graph.formats.items():
            if form in (Format.INT8, Format.INT16, Format.WIDE) and self.rng.random() < 0.3:
                # Few bits: then products, too, are halves of something.
                inputs[name] &= -1 << int(self.rng.integers(4, 7) if form is Format.INT8 else self.rng.integers(6, 12))
        held = random_row_parameters(graph, self.seed)
        for operation in self.operations:
            if isinstance(operation, LayerNorm) and self.rng.random() < 0.4:
                signs = self.rng.choice([-1, 1], operation.width).astype(np.int32)
                held[operation.name] = dataclasses.replace(held[operation.name], multiplier=held[operation.name].multiplier * signs)
            if operation.scales and self.rng.random() < 0.5:
                held[operation.name] = _with_halves(held[operation.name])
        return Job(graph, Constants(held), inputs)


def _with_halves(held: Parameters) -> Parameters:
    """With powers of two as scales: any others leave hardly a half to be rounded."""
    multiplier, shift = np.broadcast_arrays(held.multiplier, held.shift)
    places = np.frexp(np.abs(multiplier))[1] - 1
    less = np.minimum(np.maximum(places, 0), shift)
    kept = np.where(multiplier == 0, 0, np.sign(multiplier) << np.maximum(places - less, 0))
    return dataclasses.replace(held, multiplier=kept.astype(np.int32), shift=(shift - less).astype(np.int32))


def random_rows(seed: int, rng: Choices | None = None) -> Job:
    return RandomRows(seed, rng).job()


def two_at_once(seed: int) -> Job:
    """Two random graphs as one, their operations by turns: tensors of different rows, and passes of all kinds in any order."""
    parts = [random_rows(1000 + 2 * seed + i) for i in range(2)]
    named = list(zip(parts, "ab", strict=True))
    graphs = [(cast(RowGraph, part.graph), prefix) for part, prefix in named]
    operations = [[renamed(each, prefix) for each in graph.operations] for graph, prefix in graphs]
    by_turns = itertools.chain.from_iterable(itertools.zip_longest(*operations))
    both = RowGraph(
        f"both{seed}",
        {prefix + name: shape for part, prefix in named for name, shape in part.graph.inputs.items()},
        tuple(operation for operation in by_turns if operation),
        tuple(prefix + name for part, prefix in named for name in part.graph.outputs),
        formats={prefix + name: form for graph, prefix in graphs for name, form in graph.formats.items()},
    )
    held = {prefix + name: each for part, prefix in named for name, each in part.constants.items()}
    inputs = {prefix + name: values for part, prefix in named for name, values in part.inputs.items()}
    return Job(verify_rows(both), Constants(held), inputs)


def renamed(operation: RowOperation, prefix: str) -> RowOperation:
    """The same with other names for it and what it reads."""
    names = {operation.name, *operation.sources}
    values = {field.name: getattr(operation, field.name) for field in dataclasses.fields(operation)}
    changes = {field: prefix + value for field, value in values.items() if isinstance(value, str) and value in names}
    return dataclasses.replace(operation, **changes)  # type: ignore[arg-type]
