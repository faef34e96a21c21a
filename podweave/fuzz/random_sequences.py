"""Random graphs of operations on rows whose rows are of several sequences, with caches of their own, some of which begin alike."""

from __future__ import annotations

from podweave.ir.row_operations import Append, Attention, Format, KeyValues, SharedKeys

from ..runs.jobs import Job
from .choices import Choices
from .random_rows import REGISTERS, RandomRows

TILE = 4
"""Keys are shared in whole tiles: of chips of so many columns."""


class RandomSequences(RandomRows):
    """Like `RandomRows`; every attention is over what its rows see, each sequence its own."""

    def attention(self) -> str:
        kv, group, size = self.number(1, 2), self.number(1, 2), self.number(2, 4, 6)
        group = group if group * self.rows <= REGISTERS else 1
        if self.registers + group * self.rows > REGISTERS:
            return self.linear()
        self.registers += group * self.rows
        heads, width = kv * group, kv * size
        query = self.rope(heads, size) if self.rng.random() < 0.5 else self.linear(Format.INT16, heads * size)
        sources = [self.linear(Format.INT8, width) for _ in range(2)]
        count = TILE * self.number(0, 0, 1, 2, 3)
        sequences, row = list[KeyValues](), 0
        while row < self.rows:
            rows = int(self.rng.integers(1, self.rows - row + 1)) if len(sequences) < 3 else self.rows - row
            sequences.append(self.sequence(sources, row, rows, width, count))
            row += rows
        shared = None
        if count:
            first, context = sequences[0], count + self.number(0, 0, 1, 5)
            if self.rng.random() < 0.5:
                shared = SharedKeys(key=first.key, value=first.value, context=first.context, count=count)
            else:
                names = [self.input(Format.INT8, width, context) for _ in range(2)]
                shared = SharedKeys(key=names[0], value=names[1], context=context, count=count)
        lengths = None
        if self.rng.random() < 0.7:
            lengths = self.input(Format.LENGTHS, self.rows, 1)
            self.lengths[lengths] = min(each.context for each in sequences)
        return self.add(
            Attention(
                self.name,
                self.rows,
                query=query,
                key=sequences[0].key,
                value=sequences[0].value,
                context=sequences[0].context,
                lengths=lengths,
                heads=heads,
                kv_heads=kv,
                head_size=size,
                further=tuple(sequences[1:]),
                shared=shared,
            )
        )

    def sequence(self, sources: list[str], row: int, rows: int, width: int, count: int) -> KeyValues:
        """Keys and values of ``rows`` rows from ``row`` on, to which they are appended, perhaps where an input says; the first
        ``count`` stay as they are."""
        context = count + rows + self.number(0, 1, 4, 13)
        position, offset, span = count + int(self.rng.integers(0, context - count - rows + 1)), None, 0
        appended = [self.rng.random() < 0.8 for _ in sources]
        # Offsets choose among rows of one tile, and each takes two base registers.
        most = min(TILE - position % TILE, context - position)
        if any(appended) and Format.OFFSET not in self.formats.values() and most >= rows and self.rng.random() < 0.7:
            offset, span = self.input(Format.OFFSET, 1, 1), int(self.rng.integers(rows, most + 1))
        names = []
        for source, is_appended in zip(sources, appended, strict=True):
            cache = self.input(Format.INT8, width, context)
            if not is_appended:
                names.append(cache)
                continue
            self.operations.append(
                Append(
                    self.name,
                    rows,
                    source=source,
                    cache=cache,
                    width=width,
                    context=context,
                    position=position,
                    offset=offset,
                    span=span,
                    first_row=row,
                    source_rows=self.rows,
                )
            )
            names.append(self.operations[-1].name)
        return KeyValues(key=names[0], value=names[1], context=context, rows=rows)


def random_sequences(seed: int, rng: Choices | None = None) -> Job:
    """A random graph of rows, with an attention at least if registers hold its lengths."""
    growing = RandomSequences(seed, rng)
    growing.attention()
    return growing.job()
