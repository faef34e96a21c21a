"""Decoder layers of language models of the shape of Llama, and their parts: by name, with rows and context."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..graph import Graph
from ..layers import WorkloadError, shortened
from ..row_graph import RowGraph
from ..row_operations import Append, Attention, Format, KeyValues, RmsNorm, Rope, SharedKeys, SiluProduct
from ..texts import whole_number
from .registry import Frontend
from .row_builder import RowBuilder, require_sizes


@dataclass(frozen=True)
class DecoderSizes:
    """``heads`` of the queries share ``kv_heads`` of keys and values; ``intermediate`` channels in the feed-forward layer.

    ``head``: channels of a head, by default so many that all heads have ``hidden``.
    """

    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    layers: int = 1
    head: int | None = None

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads if self.head is None else self.head

    @property
    def query_channels(self) -> int:
        """Of all heads."""
        return self.heads * self.head_size

    @property
    def key_channels(self) -> int:
        """Of all heads of keys, or of values."""
        return self.kv_heads * self.head_size

    @property
    def cached(self) -> int:
        """Numbers in the caches of all layers for a position: its keys and values."""
        return 2 * self.layers * self.key_channels


@dataclass(frozen=True)
class NormSettings:
    """Of a norm. ``scale_shift``: bits by which residuals are shifted to fit 16 bits; ``epsilon``: in units of squares so shifted.

    By default as random residuals need it.
    """

    scale_shift: int = 7
    epsilon: int = 3


@dataclass(frozen=True)
class LayerSettings:
    """Of a decoder layer: of its two norms, and bits behind the point of what gates."""

    attention_norm: NormSettings = NormSettings()
    ffn_norm: NormSettings = NormSettings()
    gate_fraction: int = 11


@dataclass(frozen=True)
class HeadSettings:
    """What comes behind all layers: a norm, and as many logits as a vocabulary has tokens."""

    vocabulary: int
    norm: NormSettings = NormSettings()


@dataclass(frozen=True)
class TextRows:
    """Rows of a text that are computed in a run.

    Members
    -------
    rows : int
        How many.
    context : int
        Positions for which there are keys, their own too.
    position : int, optional
        That of the first row; by default the rows are the last ones of the context.
    span : int
        Among how many positions, from ``position`` on, the rows may be: an input, "offset", says by how many they go further. By
        default they do not move.
    slot : int
        Which of several texts it is: names of its caches, and of its offset, end with ".1" in slot 1, with nothing in slot 0.
    shared : int
        So many positions at the beginning are those of the text in slot 0 too, in whose caches their keys and values are.
    """

    rows: int
    context: int
    position: int | None = None
    span: int = 0
    slot: int = 0
    shared: int = 0

    @property
    def first(self) -> int:
        """Position of the first row."""
        return self.context - self.rows if self.position is None else self.position

    @property
    def suffix(self) -> str:
        """Of names of what is its own."""
        return text_suffix(self.slot)


def text_suffix(slot: int) -> str:
    """Of names of what is of the text in a slot alone."""
    return f".{slot}" if slot else ""


class DecoderBuilder(RowBuilder):
    """Of decoders."""

    def norm(self, name: str, source: str, width: int, settings: NormSettings) -> str:
        shift, epsilon = settings.scale_shift, settings.epsilon
        return self.add(RmsNorm(name, self.rows, source=source, width=width, scale_shift=shift, epsilon=epsilon))

    def feed_forward(self, prefix: str, x: str, hidden: int, intermediate: int, settings: LayerSettings) -> str:
        y = self.norm(f"{prefix}ffn_norm", x, hidden, settings.ffn_norm)
        gate, up = (self.linear(f"{prefix}{name}", y, hidden, intermediate) for name in ("gate", "up"))
        fraction = settings.gate_fraction
        h = self.add(SiluProduct(f"{prefix}product", self.rows, gate=gate, up=up, width=intermediate, fraction=fraction))
        return self.linear(f"{prefix}down", h, intermediate, hidden, Format.WIDE, x)

    def attention(
        self,
        prefix: str,
        x: str,
        sizes: DecoderSizes,
        texts: Sequence[TextRows],
        settings: LayerSettings,
        *,
        rotated: bool = True,
    ) -> str:
        """The norm, attention over what is appended to caches, and the residual around them. ``texts``: whose rows they are.
        ``rotated``: by their positions, as queries and keys of decoders are."""
        size, width = sizes.head_size, sizes.key_channels
        y = self.norm(f"{prefix}attention_norm", x, sizes.hidden, settings.attention_norm)
        query = self.linear(f"{prefix}q", y, sizes.hidden, sizes.query_channels)
        key = self.linear(f"{prefix}k", y, sizes.hidden, width, Format.INT16 if rotated else Format.INT8)
        value = self.linear(f"{prefix}v", y, sizes.hidden, width, Format.INT8)
        if rotated:
            query, key = (
                self.add(Rope(f"{name}_rope", self.rows, source=name, angles="angles", heads=heads, head_size=size, form=form))
                for name, heads, form in ((query, sizes.heads, Format.INT16), (key, sizes.kv_heads, Format.INT8))
            )
        seen, row = [], 0
        for text in texts:
            names = []
            for name, source in (("keys", key), ("values", value)):
                append = Append(
                    f"{prefix}{name}_now{text.suffix}",
                    text.rows,
                    source=source,
                    cache=self.input(f"{prefix}{name}{text.suffix}", Format.INT8, width, text.context),
                    width=width,
                    context=text.context,
                    position=text.first,
                    offset=f"offset{text.suffix}" if text.span else None,
                    span=text.span,
                    first_row=row,
                    source_rows=self.rows,
                )
                names.append(self.add(append))
            seen.append(KeyValues(key=names[0], value=names[1], context=text.context, rows=text.rows))
            row += text.rows
        shared = self._shared(prefix, texts, width)
        o = self.add(
            Attention(
                f"{prefix}attention",
                self.rows,
                query=query,
                key=seen[0].key,
                value=seen[0].value,
                lengths="lengths",
                context=seen[0].context,
                heads=sizes.heads,
                kv_heads=sizes.kv_heads,
                head_size=size,
                further=tuple(seen[1:]),
                shared=shared,
            )
        )
        return self.linear(f"{prefix}o", o, sizes.query_channels, sizes.hidden, Format.WIDE, x)

    def _shared(self, prefix: str, texts: Sequence[TextRows], width: int) -> SharedKeys | None:
        """What texts share with that in slot 0, which may be among them."""
        count = max(text.shared for text in texts)
        if not count:
            return None
        names, context = [f"{prefix}{name}_now" for name in ("keys", "values")], [text.context for text in texts if not text.slot]
        if not context:
            names = [self.input(f"{prefix}{name}", Format.INT8, width, count) for name in ("keys", "values")]
        return SharedKeys(key=names[0], value=names[1], context=context[0] if context else count, count=count)


def decoder(
    sizes: DecoderSizes,
    texts: Sequence[TextRows],
    name: str,
    settings: Sequence[LayerSettings] | None = None,
    head: HeadSettings | None = None,
) -> RowGraph:
    """Decoder layers: rows of one or several texts are computed, the keys and values of all their other positions are there.

    Parameters
    ----------
    sizes : DecoderSizes
        Of the layers, and how many there are.
    texts : sequence of TextRows
        Whose rows they are, those of the first text in front.
    name : str
        Of the graph.
    settings : sequence of LayerSettings, optional
        Of each layer. Without them all are as `LayerSettings` has them by default, and a single layer has no "layer0." in front
        of its names.
    head : HeadSettings, optional
        Adds the operations "norm" and "head" behind the layers; the output is "head", int32.

    Returns
    -------
    RowGraph
        Its inputs are "x", int32 residuals; "angles"; "lengths"; of each layer and text "layerN.keys" and "layerN.values"; and
        "offset" of texts that move.

    Raises
    ------
    WorkloadError
        For sizes that do not fit together.
    """
    require_sizes(name, hidden=sizes.hidden, heads=sizes.heads, kv_heads=sizes.kv_heads, intermediate=sizes.intermediate)
    require_sizes(name, layers=sizes.layers, texts=len(texts))
    for text in texts:
        require_sizes(name, rows=text.rows, context=text.context)
    if len({text.shared for text in texts if text.slot}) > 1 or any(text.shared for text in texts if not text.slot):
        raise WorkloadError(f"{name}: texts share as many positions with that in slot 0, got {[text.shared for text in texts]}")
    if len({text.slot for text in texts}) < len(texts):
        raise WorkloadError(f"{name}: each text has a slot of its own, got {', '.join(str(text.slot) for text in texts)}")
    for what, by in (("hidden", "heads"), ("heads", "kv_heads")):
        if (what == "heads" or sizes.head is None) and getattr(sizes, what) % getattr(sizes, by):
            raise WorkloadError(f"{name}: {by} ({getattr(sizes, by)}) must divide {what} ({getattr(sizes, what)})")
    require_sizes(name, head=sizes.head_size, channels_of_all_heads=sizes.query_channels)
    if sizes.head_size % 2:
        raise WorkloadError(f"{name}: a head has pairs of channels, got {sizes.head_size}")
    for text in texts:
        if text.rows > text.context:
            raise WorkloadError(f"{name}: {text.rows} rows are more than a context of {text.context}")
    if settings is not None and len(settings) != sizes.layers:
        raise WorkloadError(f"{name}: there are settings of {len(settings)} layers for {sizes.layers}")
    rows = sum(text.rows for text in texts)
    builder = DecoderBuilder(rows)
    x = builder.input("x", Format.WIDE, sizes.hidden)
    builder.input("angles", Format.ANGLES, sizes.head_size)
    builder.input("lengths", Format.LENGTHS, rows, 1)
    for text in texts:
        if text.span:
            builder.input(f"offset{text.suffix}", Format.OFFSET, 1, 1)
    for layer, of_layer in enumerate(settings or [LayerSettings()] * sizes.layers):
        prefix = f"layer{layer}." if settings or sizes.layers > 1 else ""
        x = builder.attention(prefix, x, sizes, texts, of_layer)
        x = builder.feed_forward(prefix, x, sizes.hidden, sizes.intermediate, of_layer)
    if head:
        require_sizes(name, vocabulary=head.vocabulary)
        y = builder.norm("norm", x, sizes.hidden, head.norm)
        builder.linear("head", y, sizes.hidden, head.vocabulary, Format.WIDE)
    return builder.graph(name)


def gated_feed_forward(hidden: int, intermediate: int, rows: int, name: str) -> RowGraph:
    """The norm, the gated feed-forward layer, and the residual around them."""
    require_sizes(name, hidden=hidden, intermediate=intermediate, rows=rows)
    builder = DecoderBuilder(rows)
    builder.feed_forward("", builder.input("x", Format.WIDE, hidden), hidden, intermediate, LayerSettings())
    return builder.graph(name)


def norm(hidden: int, rows: int, name: str) -> RowGraph:
    """A norm alone."""
    require_sizes(name, hidden=hidden, rows=rows)
    builder = DecoderBuilder(rows)
    builder.norm("norm", builder.input("x", Format.WIDE, hidden), hidden, NormSettings())
    return builder.graph(name)


def attention(heads: int, kv_heads: int, head_size: int, rows: int, context: int, name: str) -> RowGraph:
    """Attention alone: queries, keys and values are inputs."""
    require_sizes(name, heads=heads, kv_heads=kv_heads, head_size=head_size, rows=rows, context=context)
    if heads % kv_heads:
        raise WorkloadError(f"{name}: kv_heads ({kv_heads}) must divide heads ({heads})")
    if rows > context:
        raise WorkloadError(f"{name}: {rows} rows are more than a context of {context}")
    builder = DecoderBuilder(rows)
    query = builder.input("q", Format.INT16, heads * head_size)
    key, value = (builder.input(cache, Format.INT8, kv_heads * head_size, context) for cache in ("k", "v"))
    lengths = builder.input("lengths", Format.LENGTHS, rows, 1)
    builder.add(
        Attention(
            "attention",
            rows,
            query=query,
            key=key,
            value=value,
            lengths=lengths,
            context=context,
            heads=heads,
            kv_heads=kv_heads,
            head_size=head_size,
        )
    )
    return builder.graph(name)


_COUNTS = {"llama": (4, 5), "attention": (3, 3), "gated": (2, 2), "norm": (1, 1)}
"""Sizes, at the least and at the most."""
_TAKES = {"llama": ("rows", "context", "head", "texts"), "attention": ("rows", "context"), "gated": ("rows",), "norm": ("rows",)}


class LanguageModels(Frontend):
    """Decoders, and their parts."""

    _options = "[,rows=N][,context=N]"
    forms = (
        f"llama_HIDDEN_HEADS_KVHEADS_INTERMEDIATE[_LAYERS]{_options}[,head=N][,texts=N]",
        f"attention_HEADS_KVHEADS_SIZE{_options}",
        "gated_HIDDEN_INTERMEDIATE[,rows=N]",
        "norm_HIDDEN[,rows=N]",
    )
    _begin = re.compile(r"(llama|attention|gated|norm)_[0-9][^/]*")
    _form = re.compile(r"(llama|attention|gated|norm)((?:_[0-9]+)+)((?:,[a-z]+=[0-9]+)*)")

    def options(self, text: str) -> tuple[str, ...]:
        return _TAKES[text.partition("_")[0]]

    def recognises(self, text: str) -> bool:
        return self._begin.fullmatch(text) is not None

    def load(self, text: str) -> Graph:
        match = self._form.fullmatch(text)
        if not match:
            form = next(form for form in self.forms if form.startswith(text.partition("_")[0]))
            raise WorkloadError(f"{shortened(text)} is not of the form {form}, with whole numbers")
        text = shortened(text)
        kind, sizes = match[1], [whole_number(part) or 0 for part in match[2][1:].split("_")]
        least, most = _COUNTS[kind]
        if not least <= len(sizes) <= most:
            form = next(form for form in self.forms if form.startswith(kind))
            raise WorkloadError(f"{text}: {kind} takes sizes as in {form}, got {len(sizes)}")
        given = self.given(text, match[3])
        rows = given.get("rows", 1)
        context = given.get("context", rows)
        if kind == "llama":
            hidden, heads, kv_heads, intermediate = sizes[:4]
            layers = sizes[4] if len(sizes) > 4 else 1
            sizes_of_all = DecoderSizes(hidden, heads, kv_heads, intermediate, layers, given.get("head"))
            return decoder(sizes_of_all, [TextRows(rows, context, slot=slot) for slot in range(given.get("texts", 1))], text)
        if kind == "attention":
            return attention(sizes[0], sizes[1], sizes[2], rows, context, text)
        if kind == "gated":
            return gated_feed_forward(sizes[0], sizes[1], rows, text)
        return norm(sizes[0], rows, text)
