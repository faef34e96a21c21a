"""A language model in integers: all that a decoder in hardware, or its golden model, takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podweave.golden.graph import evaluate
from podweave.golden.layers.residual import embedding
from podweave.ir.arrays import read_arrays
from podweave.ir.constants import Constants, Parameters
from podweave.ir.frontends.language_models import DecoderSizes, HeadSettings, LayerSettings, NormSettings, TextRows, decoder
from podweave.ir.layers import WorkloadError
from podweave.ir.quantise import rope_tables
from podweave.ir.row_graph import RowGraph, verify_row_constants, verify_rows

from .tokenizer import Tokenizer, read_tokenizer

RESIDUAL_FRACTION = 12
"""Bits behind the point of residuals, and so of the embedding."""
LOGIT_FRACTION = 16
"""Bits behind the point of logits."""
_FORMAT = "podweave language model 1"
_ARRAYS = ("bias", "multiplier", "shift", "wide_table")


class ModelFileError(WorkloadError):
    """A file that is no quantised model, or not a whole one."""


@dataclass(frozen=True)
class IntegerModel:
    """A decoder with its vocabulary, as `podweave quantise` makes it.

    ``graph(rows, context)`` gives the graph of a run; `podweave.golden.graph.evaluate` of it, with ``constants`` and with
    ``inputs``, gives the logits, which are those of the hardware bit for bit. Positions of a text count from 0; those of ``prefix``
    are never run, their keys and values are part of the model and stand in the first rows of every cache.

    Parameters
    ----------
    name : str
        Of the model.
    sizes : DecoderSizes
        Of its layers.
    layers : tuple of LayerSettings
        Of each layer.
    head : HeadSettings
        Of the norm behind the layers, and the size of the vocabulary, V.
    constants : mapping
        Parameters of every operation of ``graph``: "layer0.attention_norm", "layer0.q", ..., "norm", "head".
    embedding : ndarray of int32, shape (V, hidden)
        A row of the residual for each token, in units of 2**-12.
    prefix : tuple of int
        Tokens that all texts begin with; P of them, possibly none.
    prefix_keys, prefix_values : ndarray of int8, shape (layers, P, channels of all heads of keys)
        What is in the caches for them.
    rope_theta : float
        Base of the angles of the rotary embedding.
    context : int
        Longest text that the model was made for, in tokens.
    tokenizer : Tokenizer, optional
        From text to tokens.
    prompt_format : str
        How it is asked: ``{prompt}`` stands for the question.

    Members
    -------
    digest : str
        A hash of all that decides a logit.

    Raises
    ------
    WorkloadError
        If constants or arrays do not fit the sizes.
    """

    name: str
    sizes: DecoderSizes
    layers: tuple[LayerSettings, ...]
    head: HeadSettings
    constants: Mapping[str, Parameters]
    embedding: NDArray[np.int32]
    prefix: tuple[int, ...]
    prefix_keys: NDArray[np.int8]
    prefix_values: NDArray[np.int8]
    rope_theta: float
    context: int
    tokenizer: Tokenizer | None = None
    prompt_format: str = "{prompt}"

    def __post_init__(self) -> None:
        cached = (self.sizes.layers, len(self.prefix), self.sizes.key_channels)
        for name, dtype, shape in (
            ("embedding", np.int32, (self.vocabulary, self.sizes.hidden)),
            ("prefix_keys", np.int8, cached),
            ("prefix_values", np.int8, cached),
        ):
            found = getattr(self, name)
            if found.shape != shape or found.dtype != dtype:
                wanted = np.dtype(dtype).name
                raise WorkloadError(f"{self.name}: {name} must be {wanted} {shape}, got {found.dtype} {found.shape}")
        graph = verify_rows(self.graph(1, 1))
        verify_row_constants(graph, self.constants)
        expected = {operation.name for operation in graph.operations if operation.name in self.constants}
        if unknown := self.constants.keys() - expected:
            raise WorkloadError(f"{self.name}: there are constants for {min(unknown)}, which is no operation")

    @property
    def vocabulary(self) -> int:
        return self.head.vocabulary

    @cached_property
    def digest(self) -> str:
        total = hashlib.sha256(Constants(self.constants).digest.encode())
        total.update(json.dumps(self.describe(), sort_keys=True).encode())
        for array in (self.embedding, self.prefix_keys, self.prefix_values):
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()

    def graph(self, rows: int, context: int, head: bool = True) -> RowGraph:
        """The graph of a run of the last ``rows`` of ``context`` positions of a text; see `graph_of_texts`.

        Its inputs are as `inputs` makes them.
        """
        return self.graph_of_texts([TextRows(rows, context)], head)

    def graph_of_texts(self, texts: Sequence[TextRows], head: bool = True) -> RowGraph:
        """The graph of a run.

        Parameters
        ----------
        texts : sequence of TextRows
            Which rows of which texts.
        head : bool
            Whether there are logits: the output is "head", int32 (1, 1, rows, V) in units of 2**-16; otherwise the residual.

        Returns
        -------
        RowGraph
            Its inputs are as of `ir.frontends.language_models.decoder`: "x", "angles" and "lengths" are `rows` of all tokens.
        """
        name = f"{self.name}, {' and '.join(f'{text.rows} of {text.context}' for text in texts)}"
        return decoder(self.sizes, texts, name, self.layers, self.head if head else None)

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, those of ``prefix`` in front, once; raises `WorkloadError` if there is no tokenizer."""
        if self.tokenizer is None:
            raise WorkloadError(f"{self.name} has no tokenizer")
        found = self.tokenizer.encode(text)
        return found if tuple(found[: len(self.prefix)]) == self.prefix else [*self.prefix, *found]

    def prompt(self, question: str) -> list[int]:
        """The tokens of a question, as the model is asked."""
        return self.tokens(self.prompt_format.replace("{prompt}", question))

    def caches(self, context: int) -> dict[str, NDArray[np.int8]]:
        """Caches of ``context`` rows by name of input, (1, 1, context, channels): those of the prefix, then zeros."""
        count = len(self.prefix)
        if context < count:
            raise WorkloadError(
                f"{self.name}: a cache must hold at least the {count} tokens that all texts begin with, got {context}"
            )
        found = {}
        for layer in range(self.sizes.layers):
            for name, first in (("keys", self.prefix_keys), ("values", self.prefix_values)):
                cache = np.zeros((1, 1, context, self.sizes.key_channels), np.int8)
                cache[0, 0, :count] = first[layer]
                found[f"layer{layer}.{name}"] = cache
        return found

    def inputs(
        self, tokens: Sequence[int], caches: Mapping[str, NDArray[np.int8]], position: int | None = None
    ) -> dict[str, NDArray]:
        """The inputs of ``graph(len(tokens), context)``, context being the rows of the caches.

        Parameters
        ----------
        tokens : sequence of int
            Those that are run: the last of ``context`` positions. In front of them there are at least those of ``prefix``.
        caches : mapping
            As `caches` makes them, with what runs before left there.
        position : int, optional
            That of the first of them; by default they are the last of the context.

        Returns
        -------
        dict
            "x", int32 (1, 1, rows, hidden); "angles", int16 (1, 1, rows, channels of a head); "lengths", int32 (1, 1, 1, rows); and
            the caches.

        Raises
        ------
        WorkloadError
            If tokens are none of the vocabulary, if there are none, or if they reach into the prefix.
        """
        rows, context = len(tokens), next(iter(caches.values())).shape[2]
        first = context - rows if position is None else position
        if first < len(self.prefix) and rows:
            raise WorkloadError(
                f"{self.name}: {rows} tokens and the {len(self.prefix)} that all texts begin with do not fit a context of {context}"
            )
        return self.rows(tokens, range(first, first + rows)) | dict(caches)

    def rows(self, tokens: Sequence[int], positions: Sequence[int]) -> dict[str, NDArray]:
        """The inputs of tokens, which may be of several texts, at those positions of theirs: "x", "angles" and "lengths" as
        `inputs` makes them. Raises `WorkloadError` if tokens are none of the vocabulary, or if there are none."""
        numbers, at = np.asarray(tokens), np.asarray(positions)
        if not len(numbers):
            raise WorkloadError(f"{self.name}: a run needs at least one token, got 0")
        if numbers.min() < 0 or numbers.max() >= self.vocabulary:
            wrong = numbers.min() if numbers.min() < 0 else numbers.max()
            raise WorkloadError(f"{self.name}: tokens must be in [0, {self.vocabulary}), got {wrong}")
        angles = np.stack(rope_tables(at, self.sizes.head_size, self.rope_theta), axis=-1)
        return {
            "x": embedding(numbers, self.embedding)[None, None],
            "angles": angles.reshape(1, 1, len(numbers), self.sizes.head_size),
            "lengths": (at + 1).astype(np.int32)[None, None, None],
        }

    def evaluate(self, text: Sequence[int], head: bool = True) -> dict[str, NDArray]:
        """All tensors of a text that begins with the prefix, by the golden model; rows are those of the tokens behind it."""
        count, context = len(self.prefix), len(text)
        if tuple(text[:count]) != self.prefix:
            raise WorkloadError(f"{self.name}: texts begin with tokens {self.prefix}, got {tuple(text[:count])}")
        graph = self.graph(context - count, context, head)
        return evaluate(graph, self.constants, self.inputs(text[count:], self.caches(context)))

    def describe(self) -> dict[str, object]:
        """All that decides a logit and is no array: sizes, settings, prefix."""
        return {
            "sizes": asdict(self.sizes),
            "layers": [asdict(layer) for layer in self.layers],
            "head": asdict(self.head),
            "prefix": list(self.prefix),
            "rope_theta": self.rope_theta,
        }

    def save(self, path: Path) -> None:
        """Write it to one file, of the format of NumPy's ``npz``."""
        small = self.embedding.astype(np.int16)
        arrays: dict[str, NDArray] = {
            "embedding": small if np.array_equal(small, self.embedding) else self.embedding,
            "prefix_keys": self.prefix_keys,
            "prefix_values": self.prefix_values,
        }
        for name, held in self.constants.items():
            for number, weights in enumerate(held.weights):
                arrays[f"{name}/weights{number}"] = weights
            for what in _ARRAYS:
                if getattr(held, what) is not None:
                    arrays[f"{name}/{what}"] = getattr(held, what)
        about = self.describe() | {
            "format": _FORMAT,
            "digest": self.digest,
            "name": self.name,
            "context": self.context,
            "tokenizer": self.tokenizer and [self.tokenizer.kind, self.tokenizer.to_text()],
            "prompt_format": self.prompt_format,
        }
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_model(path: str | Path) -> IntegerModel:
    """Read what `IntegerModel.save` wrote.

    Raises
    ------
    ModelFileError
        If it is no such file, not a whole one, or if what it holds is not what its hash was made of.
    OSError
        If it cannot be opened.
    """
    try:
        arrays = read_arrays(path)
        about = json.loads(arrays.pop("about").tobytes())
        found_format = about["format"]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{path} is no model that podweave quantise wrote, or not a whole one: {error}") from error
    if found_format != _FORMAT:
        raise ModelFileError(f"{path}: the format must be {_FORMAT!r}, got {found_format!r}")
    try:
        model = _model(about, arrays)
    except (KeyError, TypeError) as error:
        raise ModelFileError(f"{path}: the model lacks {error}") from error
    except WorkloadError as error:
        raise ModelFileError(f"{path}: {error}") from error
    if model.digest != about["digest"]:
        raise ModelFileError(f"{path}: what it holds has the hash {model.digest}, and it says {about['digest']}")
    return model


def _model(about: dict, arrays: dict[str, NDArray]) -> IntegerModel:
    held: dict[str, dict[str, NDArray]] = {}
    for key in [key for key in arrays if "/" in key]:
        name, _, what = key.partition("/")
        held.setdefault(name, {})[what] = arrays.pop(key)
    constants = {
        name: Parameters(
            tuple(parts[what] for what in sorted(parts) if what.startswith("weights")),
            parts["bias"],
            parts["multiplier"],
            parts["shift"],
            wide_table=parts.get("wide_table"),
        )
        for name, parts in held.items()
    }
    layers = tuple(
        LayerSettings(NormSettings(**each["attention_norm"]), NormSettings(**each["ffn_norm"]), each["gate_fraction"])
        for each in about["layers"]
    )
    return IntegerModel(
        name=about["name"],
        sizes=DecoderSizes(**about["sizes"]),
        layers=layers,
        head=HeadSettings(about["head"]["vocabulary"], NormSettings(**about["head"]["norm"])),
        constants=constants,
        embedding=arrays["embedding"].astype(np.int32),
        prefix=tuple(about["prefix"]),
        prefix_keys=arrays["prefix_keys"],
        prefix_values=arrays["prefix_values"],
        rope_theta=about["rope_theta"],
        context=about["context"],
        tokenizer=read_tokenizer(*about["tokenizer"]) if about["tokenizer"] else None,
        prompt_format=about["prompt_format"],
    )
