"""What transformers multiply: the GEMMs of BERT, and dense layers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..graph import Graph
from ..layers import MAX_SIZE, Layer, WorkloadError, gemm
from ..operations import Linear, Operand, Shape
from ..texts import whole_number
from .registry import Frontend


@dataclass(frozen=True)
class Sizes:
    """``layers`` encoders of ``hidden`` channels, which ``heads`` share; ``intermediate`` channels between the dense layers."""

    layers: int
    hidden: int
    heads: int
    intermediate: int


# By the names of SOSA's benchmark set, whose tiny is the BERT-mini of arXiv 1908.08962 (its tiny is 2 encoders of 128).
BERTS = {
    "tiny": Sizes(4, 256, 4, 1024),
    "small": Sizes(4, 512, 8, 2048),
    "medium": Sizes(8, 512, 8, 2048),
    "base": Sizes(12, 768, 12, 3072),
    "large": Sizes(24, 1024, 16, 4096),
}


def bert(layers: int, hidden: int, heads: int, intermediate: int, sequence: int, name: str = "bert") -> Graph:
    """BERT with its two heads of pre-training: one GEMM per operation, in the order and with the names of SOSA's rows.

    The input is the embedded sequence. Weights are resident constants in this representation, while K^T and V, by which
    attention multiplies, are data: the operations of a head's QK and PV have weights of their sizes, and come ``after`` the
    operations that compute them, so that the order in time is right though the values are not. As in the rows, softmax, layer norm,
    residual connections and the projection to the vocabulary are left out; `ir.frontends.encoders` is BERT as it is.
    """
    if heads < 1 or hidden % heads:
        raise WorkloadError(f"{name}: {hidden} channels cannot be shared by {heads} heads")
    width = hidden // heads
    inputs: dict[str, Shape] = {"input": (1, 1, sequence, hidden)}
    operations: list[Linear] = []

    def add(
        operation: str, source: str | tuple[str, ...], k: int, n: int, head: int | None = None, after: tuple[str, ...] = ()
    ) -> str:
        sources = (source,) if isinstance(source, str) else source
        channels = None if head is None else (head * width, width)
        operations.append(
            Linear(operation, (Operand(sources, gemm(sequence, k, n, name=operation), channels=channels),), after=after)
        )
        return operation

    x = "input"
    for layer in range(1, layers + 1):
        encoder = f"Encoder-{layer}-"
        attention = f"{encoder}MultiHeadSelfAttention_"
        k, q, v = (add(attention + letter, x, hidden, hidden) for letter in "KQV")
        scores = [add(f"{attention}QK{h}", q, width, sequence, head=h, after=(k,)) for h in range(heads)]
        values = [add(f"{attention}PV{h}", scores[h], sequence, width, after=(v,)) for h in range(heads)]
        x = add(f"{attention}O", tuple(values), hidden, hidden)
        x = add(f"{encoder}FeedForward1", x, hidden, intermediate)
        x = add(f"{encoder}FeedForward2", x, intermediate, hidden)
    add("MLM-Dense", x, hidden, hidden)
    # Reads the first token only: a stride as long as the sequence leaves one position.
    first = Layer(name="NSP-Dense", height=1, width=sequence, channels=hidden, outputs=hidden, stride=(1, sequence))
    operations.append(Linear("NSP-Dense", (Operand((x,), first),)))
    operations.append(Linear("NSP", (Operand(("NSP-Dense",), gemm(1, hidden, 2, name="NSP")),)))
    return Graph(name, inputs, tuple(operations))


def bert_named(size: str, sequence: int = 100) -> Graph:
    """``size``: a key of BERTS."""
    sizes = BERTS[size]
    return bert(sizes.layers, sizes.hidden, sizes.heads, sizes.intermediate, sequence, name=f"bert_{size}_{sequence}")


def feed_forward(hidden: int, intermediate: int, tokens: int = 1) -> Graph:
    """The two dense layers of a transformer: with one token, what decoding does; every weight is used once."""
    name = f"ffn_{hidden}_{intermediate}_{tokens}"
    for what, size in (("hidden", hidden), ("intermediate", intermediate), ("tokens", tokens)):
        if not 1 <= size <= MAX_SIZE:
            rule = "at least 1" if size < 1 else f"at most {MAX_SIZE:,}"
            raise WorkloadError(f"{name}: {what} must be {rule}, got {size}")
    up = Linear("up", (Operand(("input",), gemm(tokens, hidden, intermediate, name="up")),))
    down = Linear("down", (Operand(("up",), gemm(tokens, intermediate, hidden, name="down")),))
    return Graph(name, {"input": (1, 1, tokens, hidden)}, (up, down))


class Transformers(Frontend):
    """GEMMs of BERT and feed-forward layers, by name and number of tokens."""

    forms = (*(f"bert_{size}_TOKENS" for size in BERTS), "ffn_HIDDEN_INTERMEDIATE[_TOKENS]")
    _berts = re.compile(rf"bert_({'|'.join(BERTS)})_([0-9]+)")
    _feed_forward = re.compile(r"ffn_([0-9]+)_([0-9]+)(?:_([0-9]+))?")

    def recognises(self, text: str) -> bool:
        return any(form.fullmatch(text) for form in (self._berts, self._feed_forward))

    def load(self, text: str) -> Graph:
        if match := self._berts.fullmatch(text):
            return bert_named(match[1], whole_number(match[2]) or 0)
        match = self._feed_forward.fullmatch(text)
        assert match
        return feed_forward(*(whole_number(number) or 0 for number in match.groups("1")))
