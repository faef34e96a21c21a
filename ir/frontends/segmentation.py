"""U-Net: an encoder and a decoder with skip connections between images of the same size.

After O. Ronneberger, P. Fischer, T. Brox, *U-Net: Convolutional Networks for Biomedical Image Segmentation*, MICCAI 2015
(arXiv 1505.04597), figure 1: a stage is two 3 x 3 convolutions, each with a ReLU; 64 channels, twice as many after each of four
2 x 2 max-pools; on the way back an "upsampling of the feature map followed by a 2 x 2 convolution ("up-convolution") that halves
the number of feature channels", and what the encoder had at that size before them; at last a 1 x 1 convolution to the classes.
There convolutions have no padding and skip connections are cropped; here convolutions are padded, so that images keep their size.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..graph import Graph
from ..layers import WorkloadError
from ..texts import whole_number
from .builder import Builder, Sources
from .registry import Frontend

_KINDS = ("transposed", "nearest")


@dataclass(frozen=True)
class UNetSizes:
    """``width``: channels of the first stage. ``depth``: max-pools. ``up``: how images are enlarged, by a transposed convolution,
    as the authors' own network has it, or from nearest neighbours."""

    width: int = 64
    depth: int = 4
    channels: int = 1
    classes: int = 2
    batch: int = 1
    up: str = "transposed"


def unet(size: int, sizes: UNetSizes | None = None, name: str = "") -> Graph:
    """U-Net on images of ``size`` x ``size`` pixels."""
    sizes = sizes or UNetSizes()
    name = name or f"unet_{size}"
    for what in ("width", "depth", "channels", "classes", "batch"):
        if getattr(sizes, what) < 1:
            raise WorkloadError(f"{name}: {what} must be at least 1, got {getattr(sizes, what)}")
    if sizes.up not in _KINDS:
        raise WorkloadError(f"{name}: up must be {' or '.join(_KINDS)}, got {sizes.up!r}")
    if sizes.depth > 20 or size < 1 or size % (1 << sizes.depth):
        raise WorkloadError(
            f"{name}: {sizes.depth} times halved, images must have a multiple of {1 << sizes.depth} pixels, got {size}"
        )
    net = Builder(name, {"input": (sizes.batch, size, size, sizes.channels)})

    def stage(prefix: str, x: Sources, width: int) -> Sources:
        return net.conv(f"{prefix}_conv2", net.conv(f"{prefix}_conv1", x, width, 3, padding="same"), width, 3, padding="same")

    x: Sources = ("input",)
    skipped: list[Sources] = []
    for number in range(1, sizes.depth + 1):
        x = stage(f"down{number}", x, sizes.width << (number - 1))
        skipped.append(x)
        x = net.pool(f"pool{number}", x, "max", kernel=2, stride=2)
    x = stage("bottom", x, sizes.width << sizes.depth)
    for number in range(sizes.depth, 0, -1):
        width = sizes.width << (number - 1)
        enlarge = net.transposed if sizes.up == "transposed" else net.upsampled
        # The encoder's channels come first, as in the authors' network.
        x = stage(f"up{number}", (*skipped.pop(), *enlarge(f"up{number}_upconv", x, width, 2)), width)
    net.conv("classes", x, sizes.classes)
    return net.graph()


class SegmentationNetworks(Frontend):
    """U-Nets, by the size of their images."""

    forms = ("unet_SIZE",)
    _form = re.compile(r"unet_([0-9]+)((?:,[a-z]+=[a-z0-9]+)*)")
    _numbers = ("width", "depth", "channels", "classes", "batch")

    def options(self, text: str) -> tuple[str, ...]:
        return (*self._numbers, "up") if text.startswith("unet_") else ()

    def recognises(self, text: str) -> bool:
        return self._form.fullmatch(text) is not None

    def load(self, text: str) -> Graph:
        match = self._form.fullmatch(text)
        assert match
        items = [item for item in match[2].split(",") if item]
        kinds = [item for item in items if item.startswith("up=")]
        if len(kinds) > 1:
            raise WorkloadError(f"{text}: up is given more than once")
        numbers = self.given(text, ",".join(item for item in items if item not in kinds))
        up = kinds[0].partition("=")[2] if kinds else "transposed"
        return unet(whole_number(match[1]) or 0, UNetSizes(**numbers, up=up), text)
