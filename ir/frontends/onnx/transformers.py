"""Whether a file is a transformer, or a network of layers with attention among them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_IMAGES = 2
"""So many convolutions in front of attention are a network of their own; one makes rows of patches."""


def is_transformer(nodes: Iterable[tuple[str, Sequence[str], Sequence[str]]], inputs: Iterable[str]) -> bool:
    """Whether what is computed of ``inputs`` is multiplied by what is computed of them, behind a softmax, as attention does; and
    there are no convolutions in front of that, or only one, which makes rows of patches.

    ``nodes``: operators, with names of what they read and give.
    """
    softmax, computed, convolutions = False, set(inputs), 0
    for operator, read, given in nodes:
        known = computed & set(read)
        if softmax and operator == "MatMul" and len(known) == len(read):
            return convolutions < _IMAGES
        softmax |= operator == "Softmax"
        convolutions += operator == "Conv"
        computed |= set(given) if known else set()
    return False
