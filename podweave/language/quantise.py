"""From a checkpoint in floating point to a model in integers.

What is rounded to what stands in docs/real_models.md. Units: an integer i of unit u stands for i * u.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podweave.ir.constants import Parameters
from podweave.ir.frontends.language_models import HeadSettings, LayerSettings, NormSettings
from podweave.ir.quantise import ANGLE_BITS, exp_table, fixed_point, norm_epsilon, quantize_scale, sigmoid, wide_table

from .calibration import LayerStatistics, by_heads, calibrate
from .checkpoint import Checkpoint, CheckpointError, Floats, LayerTensors
from .gptq import DAMPING, round_weights
from .integer_model import LOGIT_FRACTION, RESIDUAL_FRACTION, IntegerModel

Doubles = NDArray[np.float64]

STREAMED, STATIONARY = 32639, 127
"""Largest values of what streams through an array and of what is stationary in it."""
STEP = 1 / 16
"""Nats for each entry of the table of softmax."""
MAX_GAIN_SHIFT = 8
_RESIDUAL_UNIT = 2.0**-RESIDUAL_FRACTION
_ATTENTION_UNIT = 1 / 256
"""Of attention's results, in units of values."""


@dataclass(frozen=True)
class Recipe:
    """How numbers are chosen.

    Parameters
    ----------
    headroom : float
        How many times what calibration saw fits what streams through an array.
    value_headroom, key_headroom : float
        The same of values and keys, which have 8 bits: what does not fit costs more than the bits that are lost.
    key_balance : float
        How much more room channels of keys have that add less to scores: from 0, none, to 0.5, where keys and queries of a head
        have the same range.
    damping : float or None
        Of the rounding of weights; None rounds each to the nearest.
    multiplier_bits : int
        Significant bits of multipliers, at most 31.
    """

    headroom: float = 2.0
    value_headroom: float = 1.25
    key_headroom: float = 1.2
    key_balance: float = 0.25
    damping: float | None = DAMPING
    multiplier_bits: int = 16


def quantise(
    checkpoint: Checkpoint,
    texts: Sequence[Sequence[int]],
    prefix: Sequence[int] = (),
    recipe: Recipe | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> IntegerModel:
    """Make an integer model.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model in floating point.
    texts : sequence of sequences of int
        Tokens by which ranges are chosen and weights are rounded. All begin with ``prefix``, and go on.
    prefix : sequence of int
        Tokens that are in front of every text that the integer model will ever see: their keys and values become constants.
    recipe : Recipe, optional
        How numbers are chosen.
    progress : callable, optional
        Is told how many layers, the head counted, are done, and of how many.

    Raises
    ------
    CheckpointError
        If the model has what integers have no operation for, or texts do not begin as they must.
    """
    _require_supported(checkpoint)
    for text in texts:
        if list(text[: len(prefix)]) != list(prefix) or len(text) <= len(prefix):
            raise CheckpointError(f"{checkpoint.name}: texts must begin with {list(prefix)} and go on, got {list(text[:8])}")
    if not texts:
        raise CheckpointError(f"{checkpoint.name}: calibration needs at least one text")
    made = _Quantiser(checkpoint, recipe or Recipe(), len(prefix), progress)
    calibrate(checkpoint, texts, len(prefix), made.add)
    cached = (checkpoint.sizes.layers, len(prefix), checkpoint.sizes.key_channels)
    return IntegerModel(
        name=checkpoint.name,
        sizes=checkpoint.sizes,
        layers=tuple(made.settings),
        head=HeadSettings(checkpoint.vocabulary, made.norm_settings),
        constants=made.constants,
        embedding=fixed_point(checkpoint.embedding, RESIDUAL_FRACTION),
        prefix=tuple(prefix),
        prefix_keys=np.reshape(made.prefix_keys, cached).astype(np.int8),
        prefix_values=np.reshape(made.prefix_values, cached).astype(np.int8),
        rope_theta=checkpoint.rope_theta,
        context=checkpoint.context,
        tokenizer=checkpoint.tokenizer,
        prompt_format=checkpoint.prompt_format,
    )


def _require_supported(checkpoint: Checkpoint) -> None:
    for index, layer in enumerate(checkpoint.layers):
        if layer.q_norm is not None or layer.k_norm is not None:
            raise CheckpointError(
                f"{checkpoint.name}: layer {index} normalises queries or keys, head by head, for which integers have no operation"
            )


@dataclass(frozen=True)
class _Norm:
    """A norm in integers: ``settings``, a shift for each channel, what is left of its weights, and the unit of its result."""

    settings: NormSettings
    shifts: NDArray[np.int32]
    powers: Doubles
    weights: Floats
    unit: float


class _Quantiser:
    """Turns layers into integers, one after the other."""

    def __init__(self, checkpoint: Checkpoint, recipe: Recipe, prefix: int, progress: Callable[[int, int], None] | None):
        self.checkpoint, self.recipe, self.prefix, self.progress = checkpoint, recipe, prefix, progress
        self.settings: list[LayerSettings] = []
        self.norm_settings = NormSettings()
        self.constants: dict[str, Parameters] = {}
        self.prefix_keys: list[NDArray] = []
        self.prefix_values: list[NDArray] = []
        self.exp, self.sigmoid = exp_table().astype(np.int16), wide_table(sigmoid, 1 / 16, 2**-15)

    def add(self, index: int, seen: LayerStatistics) -> None:
        """Of a layer, or of what is behind all, the statistics are there."""
        layers = self.checkpoint.sizes.layers
        if index == layers:
            self._head(seen)
        else:
            self._layer(f"layer{index}.", self.checkpoint.layers[index], seen)
        if self.progress:
            self.progress(index + 1, layers + 1)

    def _layer(self, name: str, layer: LayerTensors, seen: LayerStatistics) -> None:
        attention_norm = self._norm(f"{name}attention_norm", layer.attention_norm, seen.residuals[0])
        values = self._attention(name, layer, seen, attention_norm)
        # The values of the first token, which were taken out, come back as a bias: weights of attention sum up to 1.
        first = layer.o @ by_heads(seen.first_values, self.checkpoint.sizes)
        hessian = seen.hessians["o"] / np.outer(values, values)
        self._linear(f"{name}o", [layer.o * values.astype(np.float32)], hessian, _ATTENTION_UNIT, [_RESIDUAL_UNIT], [first])
        ffn_norm = self._norm(f"{name}ffn_norm", layer.ffn_norm, seen.residuals[1])
        fraction = self._feed_forward(name, layer, seen, ffn_norm)
        self.settings.append(LayerSettings(attention_norm.settings, ffn_norm.settings, fraction))

    def _head(self, seen: LayerStatistics) -> None:
        norm = self._norm("norm", self.checkpoint.norm, seen.residuals[0])
        self.norm_settings = norm.settings
        self._linear(
            "head", [self.checkpoint.head * norm.weights], self._hessian(seen, "norm", norm), norm.unit, [2.0**-LOGIT_FRACTION]
        )

    def _norm(self, name: str, gamma: Floats, largest: float) -> _Norm:
        """Weights of a norm as powers of two, which are shifts, times what goes into the matrices behind it."""
        size = np.abs(gamma).astype(np.float64)
        exponents = np.round(np.log2(np.maximum(size, 1e-9)))
        exponents = np.maximum(exponents, exponents.max() - MAX_GAIN_SHIFT)
        shifts = (exponents.max() - exponents).astype(np.int32)
        powers = 2.0**exponents
        shift = max(0, int(np.ceil(np.log2(self.recipe.headroom * max(largest, 1e-9) / _RESIDUAL_UNIT / (STREAMED + 128)))))
        channels = len(gamma)
        settings = NormSettings(shift, norm_epsilon(self.checkpoint.epsilon, channels, shift, RESIDUAL_FRACTION))
        self.constants[name] = Parameters((), np.zeros(channels, np.int32), np.ones(channels, np.int32), shifts)
        # 2**15 stands for a row whose squares sum up to 1; a normalised row has the mean 1.
        unit = float(np.sqrt(channels) / 2**15 * powers.max())
        return _Norm(settings, shifts, powers, (gamma / powers).astype(np.float32), unit)

    @staticmethod
    def _hessian(seen: LayerStatistics, what: str, norm: _Norm) -> Doubles:
        return seen.hessians[what] * np.outer(norm.powers, norm.powers)

    def _scaled(
        self,
        factors: NDArray[np.floating] | float,
        channels: int,
        weights: tuple[NDArray[np.int8], ...] = (),
        bias: NDArray[np.int32] | None = None,
        table: NDArray[np.int16] | None = None,
    ) -> Parameters:
        of_all = np.broadcast_to(np.asarray(factors, np.float64), channels)
        multiplier, shift = quantize_scale(of_all, self.recipe.multiplier_bits)
        bias = np.zeros(channels, np.int32) if bias is None else bias
        return Parameters(weights, bias, multiplier, shift, wide_table=table)

    def _linear(
        self,
        names: str,
        matrices: Sequence[Floats],
        hessian: Doubles,
        unit: float,
        results: Sequence[float | Doubles],
        biases: Sequence[Floats | None] = (None,),
    ) -> None:
        """Matrices that multiply the same: their names, the unit of what they multiply, and units of what they give."""
        hessian_or_none = None if self.recipe.damping is None else hessian
        rounded, scales = round_weights(np.concatenate(matrices), hessian_or_none, self.recipe.damping or 0)
        begin = 0
        for name, matrix, result, bias in zip(names.split(), matrices, results, biases, strict=True):
            end = begin + len(matrix)
            sum_unit = scales[begin:end].astype(np.float64) * unit
            real = np.zeros(len(matrix)) if bias is None else bias / sum_unit
            weights = np.ascontiguousarray(rounded[begin:end].T)
            self.constants[name] = self._scaled(sum_unit / result, len(matrix), (weights,), np.rint(real).astype(np.int32))
            begin = end

    def _attention(self, name: str, layer: LayerTensors, seen: LayerStatistics, norm: _Norm) -> Doubles:
        """Returns the units of values, one for each channel of all heads."""
        sizes, recipe, peaks = self.checkpoint.sizes, self.recipe, seen.peaks
        shared, size = sizes.heads // sizes.kv_heads, sizes.head_size
        q, k, v = (np.maximum(peaks[what], 1e-9).astype(np.float64) for what in "qkv")

        # Queries are multiplied by what keys are divided by, channel by channel. Queries have bits to spare; of keys, channels that
        # add less to a score have more room.
        weight = (k * q.reshape(-1, shared, size).max(axis=1).ravel()).reshape(-1, size)
        room = (weight.max(axis=1, keepdims=True) / weight) ** recipe.key_balance
        key_units = k * room.ravel() * recipe.key_headroom / STATIONARY
        query_tops = (q * by_heads(key_units, sizes)).reshape(-1, size).max(axis=1) * recipe.headroom / STREAMED
        query_units = np.repeat(query_tops, size) / by_heads(key_units, sizes)
        value_units = v * recipe.value_headroom / STATIONARY
        turned = {}
        for what, units in (("q", query_units), ("k", key_units)):
            # Both of a pair have one unit: they are turned into each other.
            pairs = np.maximum(peaks[f"{what}_linear"], 1e-9).astype(np.float64).reshape(-1, 2).max(axis=1)
            turned[what] = np.repeat(pairs * recipe.headroom / STREAMED, 2)
            unit = turned[what] * 2.0**-ANGLE_BITS
            offset = -seen.first_keys / unit if what == "k" else np.zeros(len(unit))
            bias = np.rint(offset).astype(np.int32)
            self.constants[f"{name}{what}_rope"] = self._scaled(unit / units, len(units), bias=bias)
        self._linear(
            f"{name}q {name}k {name}v",
            [matrix * norm.weights for matrix in (layer.q, layer.k, layer.v)],
            self._hessian(seen, "attention_norm", norm),
            norm.unit,
            [turned["q"], turned["k"], value_units],
            [layer.q_bias, layer.k_bias, (0 if layer.v_bias is None else layer.v_bias) - seen.first_values],
        )
        self.constants[f"{name}attention"] = self._scaled(query_tops / np.sqrt(size) / STEP, sizes.heads, table=self.exp)
        assert seen.prefix_keys is not None
        assert seen.prefix_values is not None
        self.prefix_keys.append(_int8((seen.prefix_keys - seen.first_keys) / key_units))
        self.prefix_values.append(_int8((seen.prefix_values - seen.first_values) / value_units))
        return by_heads(value_units, sizes)

    def _feed_forward(self, name: str, layer: LayerTensors, seen: LayerStatistics, norm: _Norm) -> int:
        """Returns how many bits the gate has behind the point."""
        headroom = self.recipe.headroom
        gate, up, product = (max(float(seen.peaks[what].max()), 1e-9) * headroom / STREAMED for what in ("gate", "up", "product"))
        fraction = min(15, int(np.floor(-np.log2(gate))))
        if fraction < 4:
            raise CheckpointError(
                f"{self.checkpoint.name}: {name}gate reaches {gate * STREAMED / headroom:.0f}, more than 16 bits hold"
            )
        self._linear(
            f"{name}gate {name}up",
            [layer.gate * norm.weights, layer.up * norm.weights],
            self._hessian(seen, "ffn_norm", norm),
            norm.unit,
            [2.0**-fraction, up],
            [None, None],
        )
        factor = 2.0**-fraction * up / product
        self.constants[f"{name}product"] = self._scaled(factor, len(layer.gate), table=self.sigmoid)
        self._linear(f"{name}down", [layer.down], seen.hessians["product"], product, [_RESIDUAL_UNIT])
        return fraction


def _int8(real: NDArray) -> NDArray[np.int8]:
    return np.clip(np.rint(real), -128, 127).astype(np.int8)
