"""Whether a file is a transformer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def has_attention(nodes: Iterable[tuple[str, Sequence[str], Sequence[str]]], inputs: Iterable[str]) -> bool:
    """Whether what is computed of ``inputs`` is multiplied by what is computed of them, behind a softmax, as attention does.

    ``nodes``: operators, with names of what they read and give.
    """
    softmax, computed = False, set(inputs)
    for operator, read, given in nodes:
        known = computed & set(read)
        if softmax and operator == "MatMul" and len(known) == len(read):
            return True
        softmax |= operator == "Softmax"
        computed |= set(given) if known else set()
    return False
