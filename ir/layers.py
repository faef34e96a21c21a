"""Layers that the compiler takes, and the text form in which the command line names them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_GEMM = re.compile(r"gemm:(\d+)x(\d+)x(\d+)")
_CONV = re.compile(r"conv:(\d+)x(\d+)x(\d+)x(\d+)((?:,[a-z]+=[a-z0-9x]+)*)")

GEMM_FORM = "gemm:MxKxN"
CONV_FORM = "conv:HxWxCxO,kernel=HxW[,stride=S|SxS][,padding=P|PxP|same][,dilation=D|DxD][,groups=G|depthwise][,batch=N]"


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
            if getattr(self, rule) < 1:
                raise WorkloadError(f"{self.name}: {rule} must be at least 1, got {getattr(self, rule)}")
        for rule in ("kernel", "stride", "dilation"):
            if min(getattr(self, rule)) < 1:
                raise WorkloadError(f"{self.name}: {rule} must be at least 1, got {getattr(self, rule)}")
        if min(*self.padding[0], *self.padding[1]) < 0:
            raise WorkloadError(f"{self.name}: padding must be at least 0, got {self.padding}")
        for rule in ("channels", "outputs"):
            if getattr(self, rule) % self.groups:
                raise WorkloadError(f"{self.name}: {rule} ({getattr(self, rule)}) must be a multiple of groups ({self.groups})")
        for axis, size, kernel, padded in zip(
            ("height", "width"), (self.height, self.width), self.kernel_extent, self.padded, strict=True
        ):
            if kernel > padded:
                raise WorkloadError(f"{self.name}: the kernel spans {kernel} in {axis}, but the padded input has {padded} ({size})")

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


def gemm(m: int, k: int, n: int, *, name: str | None = None) -> Layer:
    """The GEMM (m, k) x (k, n)."""
    name = name or f"gemm:{m}x{k}x{n}"
    for letter, size in zip("MKN", (m, k, n), strict=True):
        if size < 1:
            raise WorkloadError(f"{name}: {letter} must be at least 1, got {size}")
    return Layer(name=name, height=1, width=m, channels=k, outputs=n, is_gemm=True)


def parse_workload(text: str) -> Layer:
    """The layer that a text such as ``gemm:256x256x256`` or ``conv:56x56x64x64,kernel=3x3,padding=same`` names."""
    if match := _GEMM.fullmatch(text):
        return gemm(*(int(size) for size in match.groups()))
    if match := _CONV.fullmatch(text):
        return _parse_conv(text, [int(size) for size in match.groups()[:4]], match[5])
    raise WorkloadError(f"workload {text!r} is not of the form {GEMM_FORM} or {CONV_FORM}")


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

    def pair(key: str, default: int) -> tuple[int, int]:
        value = options.get(key, str(default))
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", value)
        if not match:
            raise WorkloadError(f"{text}: {key} must be N or NxN, got {value!r}")
        return int(match[1]), int(match[2] or match[1])

    height, width, channels, outputs = sizes
    kernel, stride, dilation = pair("kernel", 1), pair("stride", 1), pair("dilation", 1)
    if min(stride) < 1 or min(kernel) < 1 or min(dilation) < 1:
        raise WorkloadError(f"{text}: kernel, stride and dilation must be at least 1")
    if options.get("padding") == "same":
        totals = [
            max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
            for size, s, k, d in zip((height, width), stride, kernel, dilation, strict=True)
        ]
        padding = tuple((total // 2, total - total // 2) for total in totals)
    else:
        padding = tuple((p, p) for p in pair("padding", 0))
    groups = options.get("groups", "1")
    if groups != "depthwise" and not groups.isdigit():
        raise WorkloadError(f"{text}: groups must be a number or depthwise, got {groups!r}")
    batch = options.get("batch", "1")
    if not batch.isdigit():
        raise WorkloadError(f"{text}: batch must be a number, got {batch!r}")
    return Layer(
        name=text,
        batch=int(batch),
        height=height,
        width=width,
        channels=channels,
        outputs=outputs,
        kernel=kernel,
        stride=stride,
        padding=(padding[0], padding[1]),
        dilation=dilation,
        groups=channels if groups == "depthwise" else int(groups),
    )
