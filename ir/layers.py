"""Layers that the compiler takes, and the text form in which the command line names them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from .texts import whole_number

_GEMM = re.compile(r"gemm:([0-9]+)x([0-9]+)x([0-9]+)")
_CONV = re.compile(r"conv:([0-9]+)x([0-9]+)x([0-9]+)x([0-9]+)((?:,[a-z]+=[a-z0-9x]+)*)")

GEMM_FORM = "gemm:MxKxN"
CONV_FORM = (
    "conv:HxWxCxO,kernel=HxW[,stride=S|SxS][,padding=P|PxP|TxBxLxR|same|valid][,dilation=D|DxD][,groups=G|depthwise][,batch=N]"
)

MAX_SIZE = 1 << 20
"""The most that any size of a layer may be: M, K, N, height, width, channels, outputs, kernel, stride, padding, dilation, batch."""
MAX_TENSOR = 1 << 32
"""The most numbers in a tensor: padded input, weights, output."""
MAX_MACS = 1 << 50
"""The most multiplications of a layer: far from where counters of 64 bits end."""
MAX_SIMULATED = 1 << 28
"""The most numbers in a tensor with values: of runs, and of chips, whose constants are laid out in memory."""


_LONGEST_NAME = 200


class WorkloadError(ValueError):
    """A workload that cannot be read or run; the message names the rule and the value."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution of NHWC activations with (KH, KW, C / groups, O) weights; a GEMM is its 1 x 1 case.

    ``padding``: ((top, bottom), (left, right)). A GEMM of M x K by K x N is an image of height 1, width M and K channels.
    """

    name: str
    batch: int = 1
    height: int
    width: int
    channels: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    is_gemm: bool = False

    def __post_init__(self) -> None:
        for rule in ("batch", "height", "width", "channels", "outputs", "groups"):
            _require_size(self.name, rule, getattr(self, rule), (getattr(self, rule),))
        for rule in ("kernel", "stride", "dilation"):
            _require_size(self.name, rule, getattr(self, rule), getattr(self, rule))
        _require_size(self.name, "padding", self.padding, (*self.padding[0], *self.padding[1]), least=0)
        for rule in ("channels", "outputs"):
            if getattr(self, rule) % self.groups:
                raise WorkloadError(f"{self.name}: {rule} ({getattr(self, rule)}) must be a multiple of groups ({self.groups})")
        for axis, size, kernel, padded in zip(
            ("height", "width"), (self.height, self.width), self.kernel_extent, self.padded, strict=True
        ):
            if kernel > padded:
                raise WorkloadError(f"{self.name}: the kernel spans {kernel} in {axis}, but the padded input has {padded} ({size})")
        for what, numbers, most in (
            ("the padded input has {:,} numbers", self.batch * prod(self.padded) * self.channels, MAX_TENSOR),
            ("the weights have {:,} numbers", prod(self.weight_shape), MAX_TENSOR),
            ("the output has {:,} numbers", self.positions * self.outputs, MAX_TENSOR),
            ("the layer has {:,} multiplications", self.macs, MAX_MACS),
        ):
            if numbers > most:
                raise WorkloadError(f"{self.name}: {what.format(numbers)}, more than {most:,}")

    def require_values_fit(self) -> None:
        """Raise `WorkloadError` if the layer is too large to be computed with values, which are all in memory."""
        columns = prod(self.output_size) * self.reduction * self.groups
        most = max(self.batch * prod(self.padded) * self.channels, prod(self.weight_shape), self.positions * self.outputs, columns)
        if most > MAX_SIMULATED:
            raise WorkloadError(
                f"{self.name}: with values, as in runs and on chips, a tensor has at most {MAX_SIMULATED:,} numbers, got {most:,}"
            )

    @property
    def kernel_extent(self) -> tuple[int, int]:
        """Input pixels that a kernel spans, dilation included."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return (kh - 1) * dh + 1, (kw - 1) * dw + 1

    @property
    def padded(self) -> tuple[int, int]:
        return self.height + sum(self.padding[0]), self.width + sum(self.padding[1])

    @property
    def output_size(self) -> tuple[int, int]:
        sizes = [
            (size - extent) // stride + 1 for size, extent, stride in zip(self.padded, self.kernel_extent, self.stride, strict=True)
        ]
        return sizes[0], sizes[1]

    @property
    def reduction(self) -> int:
        """K of the equivalent GEMM, per group."""
        return self.kernel[0] * self.kernel[1] * self.channels // self.groups

    @property
    def positions(self) -> int:
        """M of the equivalent GEMM."""
        return self.batch * self.output_size[0] * self.output_size[1]

    @property
    def macs(self) -> int:
        return self.positions * self.reduction * self.outputs

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return self.batch, self.height, self.width, self.channels

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return *self.kernel, self.channels // self.groups, self.outputs


def _require_size(name: str, rule: str, value: object, sizes: Iterable[int], least: int = 1) -> None:
    for size in sizes:
        if size < least:
            raise WorkloadError(f"{name}: {rule} must be at least {least}, got {value}")
        if size > MAX_SIZE:
            raise WorkloadError(f"{name}: {rule} must be at most {MAX_SIZE:,}, got {value}")


def gemm(m: int, k: int, n: int, *, name: str | None = None) -> Layer:
    """The GEMM (m, k) x (k, n)."""
    name = name or f"gemm:{m}x{k}x{n}"
    for letter, size in zip("MKN", (m, k, n), strict=True):
        _require_size(name, letter, size, (size,))
    return Layer(name=name, height=1, width=m, channels=k, outputs=n, is_gemm=True)


def parse_workload(text: str) -> Layer:
    """The layer that a text such as ``gemm:256x256x256`` or ``conv:56x56x64x64,kernel=3x3,padding=same`` names."""
    if match := _GEMM.fullmatch(text):
        return gemm(*_numbers(match.groups()), name=shortened(text))
    if match := _CONV.fullmatch(text):
        return _parse_conv(shortened(text), _numbers(match.groups()[:4]), match[5])
    raise WorkloadError(f"workload {shortened(text)!r} is not of the form {GEMM_FORM} or {CONV_FORM}")


def shortened(text: str) -> str:
    """``text`` as a name and in errors: what nobody can mean ends in dots."""
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}..."


def _numbers(texts: Iterable[str]) -> list[int]:
    """Of texts that are digits."""
    return [whole_number(text) or 0 for text in texts]


def _parse_conv(text: str, sizes: list[int], tail: str) -> Layer:
    items = [(key, value) for key, _, value in (item.partition("=") for item in tail.split(",") if item)]
    options: dict[str, str] = dict(items)
    for key in options:
        if sum(item[0] == key for item in items) > 1:
            raise WorkloadError(f"{text}: option {key!r} is given more than once")
    known = ("kernel", "stride", "padding", "dilation", "groups", "batch")
    for key in options:
        if key not in known:
            raise WorkloadError(f"{text}: unknown option {key!r}; allowed: {', '.join(known)}")
    if "kernel" not in options:
        raise WorkloadError(f"{text}: kernel=HxW is missing")

    def pair(key: str) -> tuple[int, int]:
        numbers = _dimensions(options.get(key, "1"))
        if len(numbers) not in (1, 2):
            raise WorkloadError(f"{text}: {key} must be N or NxN, got {options[key]!r}")
        return numbers[0], numbers[-1]

    height, width, channels, outputs = sizes
    kernel, stride, dilation = pair("kernel"), pair("stride"), pair("dilation")
    if min(stride) < 1 or min(kernel) < 1 or min(dilation) < 1:
        raise WorkloadError(f"{text}: kernel, stride and dilation must be at least 1")
    padding = options.get("padding", "0")
    if padding == "same":
        totals = [
            max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
            for size, s, k, d in zip((height, width), stride, kernel, dilation, strict=True)
        ]
        sides = [side for total in totals for side in (total // 2, total - total // 2)]
    else:
        # One number for all sides, one per axis, or top, bottom, left and right.
        numbers = _dimensions("0" if padding == "valid" else padding)
        if len(numbers) not in (1, 2, 4):
            raise WorkloadError(
                f"{text}: padding must be N, NxN, TxBxLxR (top, bottom, left, right), same or valid, got {padding!r}"
            )
        sides = numbers if len(numbers) == 4 else [numbers[0], numbers[0], numbers[-1], numbers[-1]]
    groups, batch = options.get("groups", "1"), options.get("batch", "1")
    if groups != "depthwise" and whole_number(groups) is None:
        raise WorkloadError(f"{text}: groups must be a number or depthwise, got {groups!r}")
    if whole_number(batch) is None:
        raise WorkloadError(f"{text}: batch must be a number, got {batch!r}")
    return Layer(
        name=text,
        batch=whole_number(batch) or 0,
        height=height,
        width=width,
        channels=channels,
        outputs=outputs,
        kernel=kernel,
        stride=stride,
        padding=((sides[0], sides[1]), (sides[2], sides[3])),
        dilation=dilation,
        groups=channels if groups == "depthwise" else whole_number(groups) or 0,
    )


def _dimensions(text: str) -> list[int]:
    """The numbers of ``AxBx...``, none if it is anything else."""
    numbers = [whole_number(part) for part in text.split("x")]
    return [] if None in numbers else [number for number in numbers if number is not None]
