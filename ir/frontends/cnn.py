"""Convolutional networks as Keras Applications builds them: names, order and padding are those of its layers.

Batch 1, RGB. The classifier reads the average over the last image. Batch norms and activations are no operations: they are part of
the requantisation of the operation that they follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..graph import Graph
from ..layers import WorkloadError
from ..texts import whole_number
from .builder import Builder, Sources
from .registry import Frontend

CLASSES = 1000
_USUAL_SIZE = {"resnet": 224, "densenet": 224, "inception": 299, "vgg": 224}

# Blocks per stage.
RESNETS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
VGGS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
DENSENETS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}


def _any(depths: Iterable[int]) -> str:
    return "|".join(map(str, depths))


def resnet(depth: int, size: int = 224, classifier: bool = True) -> Graph:
    """ResNet v1: a stage's stride is in the first 1 x 1 convolution and in the shortcut's, not in the 3 x 3."""
    net = Builder(f"resnet{depth}_{size}", {"input": (1, size, size, 3)})
    x = net.conv("conv1_conv", ("input",), 64, kernel=7, stride=2, padding=3)
    # Keras pads with zeros; after the ReLU they win no more often than -128 does.
    x = net.pool("pool1_pool", x, "max", kernel=3, stride=2, padding=1)
    for stage, blocks in enumerate(RESNETS[depth], start=2):
        width = 32 << (stage - 1)
        for block in range(1, blocks + 1):
            name = f"conv{stage}_block{block}"
            stride = 2 if block == 1 and stage > 2 else 1
            inner = net.conv(f"{name}_1_conv", x, width, stride=stride)
            inner = net.conv(f"{name}_2_conv", inner, width, kernel=3, padding="same")
            shortcut = net.conv(f"{name}_0_conv", x, 4 * width, stride=stride) if block == 1 else x
            x = net.conv(f"{name}_3_conv", inner, 4 * width, residual=shortcut)
    if classifier:
        net.dense("predictions", net.global_pool("avg_pool", x), CLASSES)
    return net.graph()


def resnet50(size: int = 224, classifier: bool = True) -> Graph:
    return resnet(50, size, classifier)


def vgg(depth: int, size: int = 224) -> Graph:
    """VGG: stages of 3 x 3 convolutions with a max-pool behind each, and three dense layers, of which the first reads the image."""
    net = Builder(f"vgg{depth}_{size}", {"input": (1, size, size, 3)})
    x: Sources = ("input",)
    for stage, layers in enumerate(VGGS[depth], start=1):
        for number in range(1, layers + 1):
            x = net.conv(f"block{stage}_conv{number}", x, min(512, 32 << stage), kernel=3, padding="same")
        x = net.pool(f"block{stage}_pool", x, "max", kernel=2, stride=2)
    # Flattened, it is a convolution as large as the image.
    x = net.conv("fc1", x, 4096, kernel=size // 32)
    net.dense("predictions", net.dense("fc2", x, 4096), CLASSES)
    return net.graph()


def densenet(depth: int, size: int = 299, classifier: bool = True) -> Graph:
    """DenseNet: each block's 1 x 1 convolution reads the concatenation of all outputs of its stage.

    Keras normalises and activates that concatenation anew for each reader. Here the batch norm before a convolution is folded
    away: each operation requantises its own output once, for all of its readers. The GEMMs, the tensors and their order are those
    of the network; its trained weights would need one more pass over the concatenation per block.
    """
    net = Builder(f"densenet{depth}_{size}", {"input": (1, size, size, 3)})
    growth = 32
    x = net.conv("conv1/conv", ("input",), 64, kernel=7, stride=2, padding=3)
    x = net.pool("pool1", x, "max", kernel=3, stride=2, padding=1)
    channels = 64
    stages = DENSENETS[depth]
    for stage, blocks in enumerate(stages, start=2):
        for block in range(1, blocks + 1):
            name = f"conv{stage}_block{block}"
            inner = net.conv(f"{name}_1_conv", x, 4 * growth)
            x = (*x, *net.conv(f"{name}_2_conv", inner, growth, kernel=3, padding="same"))
            channels += growth
        if stage - 1 < len(stages):
            channels //= 2
            x = net.conv(f"pool{stage}_conv", x, channels)
            x = net.pool(f"pool{stage}_pool", x, "sum", kernel=2, stride=2)
    if classifier:
        net.dense("predictions", net.global_pool("avg_pool", x), CLASSES)
    return net.graph()


def densenet121(size: int = 299, classifier: bool = True) -> Graph:
    return densenet(121, size, classifier)


def inception_v3(size: int = 299, classifier: bool = True, first: int = 188) -> Graph:
    """Inception v3. ``first``: number of the first convolution; Keras counts them over a session, and SOSA's began at 188.

    The operations stand in the order of SOSA's rows (Keras sorts layers by depth), the channels of a concatenation in Keras' order.
    Average pools pad with zeros and divide by 9 everywhere; Keras divides by the pixels that lie in the image, which differs in
    the values at its border only.
    """
    net = Builder(f"inception_{size}", {"input": (1, size, size, 3)})

    def conv(
        number: int, sources: Sources, outputs: int, kernel: int | tuple[int, int] = 1, stride: int = 1, same: bool = True
    ) -> Sources:
        """``number``: how many convolutions Keras creates before this one."""
        return net.conv(f"conv2d_{first + number}", sources, outputs, kernel, stride, "same" if same else 0)

    def average(name: str, sources: Sources) -> Sources:
        return net.pool(name, sources, "sum", kernel=3, stride=1, padding=1)

    x = conv(0, ("input",), 32, 3, stride=2, same=False)
    x = conv(1, x, 32, 3, same=False)
    x = conv(2, x, 64, 3)
    x = net.pool("pool1", x, "max", kernel=3, stride=2)
    x = conv(3, x, 80)
    x = conv(4, x, 192, 3, same=False)
    x = net.pool("pool2", x, "max", kernel=3, stride=2)

    # mixed 0, 1, 2: 35 x 35.
    for block, pooled in enumerate((32, 64, 64)):
        n = 5 + 7 * block
        b = conv(n + 3, x, 64)
        a = conv(n + 1, x, 48)
        b = conv(n + 4, b, 96, 3)
        one = conv(n, x, 64)
        a = conv(n + 2, a, 64, 5)
        b = conv(n + 5, b, 96, 3)
        p = conv(n + 6, average(f"mixed{block}_pool", x), pooled)
        x = (*one, *a, *b, *p)

    # mixed 3: to 17 x 17.
    b = conv(27, x, 64)
    b = conv(28, b, 96, 3)
    a = conv(26, x, 384, 3, stride=2, same=False)
    b = conv(29, b, 96, 3, stride=2, same=False)
    x = (*a, *b, *net.pool("mixed3_pool", x, "max", kernel=3, stride=2))

    # mixed 4 to 7: 17 x 17.
    for block, width in enumerate((128, 160, 160, 192), start=4):
        n = 30 + 10 * (block - 4)
        b = conv(n + 4, x, width)
        b = conv(n + 5, b, width, (7, 1))
        a = conv(n + 1, x, width)
        b = conv(n + 6, b, width, (1, 7))
        a = conv(n + 2, a, width, (1, 7))
        b = conv(n + 7, b, width, (7, 1))
        one = conv(n, x, 192)
        a = conv(n + 3, a, 192, (7, 1))
        b = conv(n + 8, b, 192, (1, 7))
        p = conv(n + 9, average(f"mixed{block}_pool", x), 192)
        x = (*one, *a, *b, *p)

    # mixed 8: to 8 x 8.
    b = conv(72, x, 192)
    b = conv(73, b, 192, (1, 7))
    a = conv(70, x, 192)
    b = conv(74, b, 192, (7, 1))
    a = conv(71, a, 320, 3, stride=2, same=False)
    b = conv(75, b, 192, 3, stride=2, same=False)
    x = (*a, *b, *net.pool("mixed8_pool", x, "max", kernel=3, stride=2))

    # mixed 9, 10: 8 x 8; both branches of 3 x 3 end in a 1 x 3 beside a 3 x 1.
    for block, n in ((9, 76), (10, 85)):
        b = conv(n + 4, x, 448)
        a = conv(n + 1, x, 384)
        b = conv(n + 5, b, 384, 3)
        a = (*conv(n + 2, a, 384, (1, 3)), *conv(n + 3, a, 384, (3, 1)))
        b = (*conv(n + 6, b, 384, (1, 3)), *conv(n + 7, b, 384, (3, 1)))
        one = conv(n, x, 320)
        p = conv(n + 8, average(f"mixed{block}_pool", x), 192)
        x = (*one, *a, *b, *p)

    if classifier:
        net.dense("predictions", net.global_pool("avg_pool", x), CLASSES)
    return net.graph()


class ConvolutionalNetworks(Frontend):
    """Networks of Keras Applications, by name and size of their images."""

    forms = (
        *(f"resnet{depth}[_SIZE]" for depth in RESNETS),
        *(f"densenet{depth}[_SIZE]" for depth in DENSENETS),
        "inception[_SIZE]",
        *(f"vgg{depth}[_SIZE]" for depth in VGGS),
    )
    _names = re.compile(
        rf"(?:(resnet)({_any(RESNETS)})|(densenet)({_any(DENSENETS)})|(inception)|(vgg)({_any(VGGS)}))(?:_([0-9]+))?"
    )

    def recognises(self, text: str) -> bool:
        return self._names.fullmatch(text) is not None

    def load(self, text: str) -> Graph:
        match = self._names.fullmatch(text)
        assert match
        family = match[1] or match[3] or match[5] or match[6]
        size = _USUAL_SIZE[family] if match[8] is None else whole_number(match[8]) or 0
        if family == "vgg":
            if size < 32:
                raise WorkloadError(f"{text}: images of VGG have at least 32 pixels a side, got {size}")
            return vgg(int(match[7]), size)
        if family == "resnet":
            return resnet(int(match[2]), size)
        return densenet(int(match[4]), size) if family == "densenet" else inception_v3(size)
