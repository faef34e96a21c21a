"""Encoder layers of the shape of BERT: by sizes, or by the names of its models."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..graph import Graph
from ..layers import WorkloadError
from ..row_graph import RowGraph
from ..row_operations import Append, Attention, Format, Gelu, LayerNorm
from ..texts import whole_number
from .registry import Frontend
from .row_builder import RowBuilder, require_sizes

EMBEDDING_SHIFT = 7
"""Bits by which random embeddings are shifted to fit 16 bits in the first norm."""
SCALE_SHIFT = 2
"""The same of what is left by the norm before, and what a layer adds to it."""
GATE_FRACTION = 11
"""Bits behind the point of what GELU is taken of."""


@dataclass(frozen=True)
class EncoderSizes:
    """``layers`` encoders of ``hidden`` channels, which ``heads`` share; ``intermediate`` channels in the feed-forward layer."""

    hidden: int
    heads: int
    intermediate: int
    layers: int = 1


BERTS = {
    "tiny": EncoderSizes(128, 2, 512, 2),
    "mini": EncoderSizes(256, 4, 1024, 4),
    "small": EncoderSizes(512, 8, 2048, 4),
    "medium": EncoderSizes(512, 8, 2048, 8),
    "base": EncoderSizes(768, 12, 3072, 12),
    "large": EncoderSizes(1024, 16, 4096, 24),
}
"""By the names of arXiv 1908.08962 and 1810.04805."""


class _Builder(RowBuilder):
    """Of encoders."""

    def norm(self, name: str, source: str, width: int, shift: int) -> str:
        # The epsilon of BERT, 1e-12, is nothing in these units.
        return self.add(LayerNorm(name, self.rows, source=source, width=width, scale_shift=shift))

    def attention(self, prefix: str, y: str, sizes: EncoderSizes) -> str:
        """All rows see all rows, their own keys and values in a cache that holds nothing else."""
        hidden, rows = sizes.hidden, self.rows
        query = self.linear(f"{prefix}q", y, hidden, hidden)
        cached = []
        for letter, name in (("k", "keys"), ("v", "values")):
            source = self.linear(f"{prefix}{letter}", y, hidden, hidden, Format.INT8)
            cache = self.input(f"{prefix}{name}", Format.INT8, hidden)
            append = Append(f"{prefix}{name}_now", rows, source=source, cache=cache, width=hidden, context=rows, position=0)
            cached.append(self.add(append))
        shape: dict[str, Any] = {"context": rows, "heads": sizes.heads, "kv_heads": sizes.heads, "head_size": hidden // sizes.heads}
        o = self.add(Attention(f"{prefix}attention", rows, query=query, key=cached[0], value=cached[1], **shape))
        x = self.linear(f"{prefix}o", o, hidden, hidden, Format.WIDE, y)
        return self.norm(f"{prefix}attention_norm", x, hidden, SCALE_SHIFT)

    def feed_forward(self, prefix: str, y: str, sizes: EncoderSizes) -> str:
        hidden, intermediate = sizes.hidden, sizes.intermediate
        up = self.linear(f"{prefix}up", y, hidden, intermediate)
        h = self.add(Gelu(f"{prefix}gelu", self.rows, gate=up, width=intermediate, fraction=GATE_FRACTION))
        x = self.linear(f"{prefix}down", h, intermediate, hidden, Format.WIDE, y)
        return self.norm(f"{prefix}output_norm", x, hidden, SCALE_SHIFT)


def encoder(sizes: EncoderSizes, rows: int, name: str) -> RowGraph:
    """From the sum of embeddings of every token and its norm to what the last layer gives; each layer is normed behind its
    additions."""
    require_sizes(name, hidden=sizes.hidden, heads=sizes.heads, intermediate=sizes.intermediate, layers=sizes.layers, rows=rows)
    if sizes.hidden % sizes.heads:
        raise WorkloadError(f"{name}: heads ({sizes.heads}) must divide hidden ({sizes.hidden})")
    builder = _Builder(rows)
    y = builder.norm("embedding_norm", builder.input("x", Format.WIDE, sizes.hidden), sizes.hidden, EMBEDDING_SHIFT)
    for layer in range(sizes.layers):
        prefix = f"layer{layer}." if sizes.layers > 1 else ""
        y = builder.attention(prefix, y, sizes)
        y = builder.feed_forward(prefix, y, sizes)
    return builder.graph(name)


class Encoders(Frontend):
    """Encoders by sizes, and those of BERT by name."""

    forms = ("encoder_HIDDEN_HEADS_INTERMEDIATE[_LAYERS][,rows=N]", *(f"bert_{size}[,rows=N]" for size in BERTS))
    _form = re.compile(rf"(?:encoder((?:_[0-9]+)+)|bert_({'|'.join(BERTS)}))((?:,[a-z]+=[0-9]+)*)")

    def options(self, text: str) -> tuple[str, ...]:
        return ("rows",)

    def recognises(self, text: str) -> bool:
        return self._form.fullmatch(text) is not None

    def load(self, text: str) -> Graph:
        match = self._form.fullmatch(text)
        assert match
        if match[2]:
            sizes = BERTS[match[2]]
        else:
            numbers = [whole_number(part) or 0 for part in match[1][1:].split("_")]
            if not 3 <= len(numbers) <= 4:
                raise WorkloadError(f"{text}: encoder takes sizes as in {self.forms[0]}, got {len(numbers)}")
            sizes = EncoderSizes(*numbers)
        given = self.given(text, match[3])
        return encoder(sizes, given.get("rows", 1), text)
