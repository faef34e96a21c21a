"""Vision transformers: patches of an image become rows by a convolution, and what is made of them becomes classes."""

from __future__ import annotations

import re

from ..graph import Graph
from ..layers import Layer, WorkloadError, gemm
from ..mixed_graph import MixedGraph
from ..operations import Linear, Operand, Window
from ..row_operations import Format
from ..texts import whole_number
from .builder import diagonal
from .language_models import DecoderBuilder, DecoderSizes, LayerSettings, NormSettings, TextRows
from .registry import Frontend
from .row_builder import require_sizes

CLASSES = 1000


def vision_transformer(image: int, patch: int, sizes: DecoderSizes, name: str) -> MixedGraph:
    """Encoders over the patches of an ``image`` of so many pixels squared, of three colours.

    Inputs are the image, what stands for the positions of patches (``positions``, int32, to which patches are added), and how many
    patches each of them sees (``lengths``). Encoders have RMS norms, and a gate in the feed-forward layer, as those of language
    models. Classes come of the mean over all patches.
    """
    require_sizes(name, image=image, patch=patch, hidden=sizes.hidden, heads=sizes.heads, intermediate=sizes.intermediate)
    require_sizes(name, layers=sizes.layers)
    for what, whole, by, part in (("image", image, "patch", patch), ("hidden", sizes.hidden, "heads", sizes.heads)):
        if whole % part:
            raise WorkloadError(f"{name}: {by} ({part}) must divide {what} ({whole})")
    side, hidden = image // patch, sizes.hidden
    rows = side * side
    builder = DecoderBuilder(rows)
    x = builder.input("positions", Format.WIDE, hidden)
    builder.input("lengths", Format.LENGTHS, rows, 1)
    square = (patch, patch)
    layer = Layer(name="patches", height=image, width=image, channels=3, outputs=hidden, kernel=square, stride=square)
    patches = Linear("patches", (Operand(("image",), layer),))
    x = builder.linear("embedded", "patches", hidden, hidden, Format.WIDE, x)
    for number in range(sizes.layers):
        prefix = f"layer{number}." if sizes.layers > 1 else ""
        x = builder.attention(prefix, x, sizes, [TextRows(rows, rows)], LayerSettings(), rotated=False)
        x = builder.feed_forward(prefix, x, hidden, sizes.intermediate, LayerSettings())
    features = builder.linear("features", builder.norm("norm", x, hidden, NormSettings()), hidden, hidden, Format.INT8)
    pooled = diagonal("mean", (1, side, side, hidden))
    mean = Linear("mean", (Operand((features,), pooled),), Window("sum", (side, side), (1, 1)), identity=True)
    classes = Linear("classes", (Operand(("mean",), gemm(1, hidden, CLASSES, name="classes")),))
    inputs = {"image": (1, image, image, 3), **builder.inputs}
    return MixedGraph(name, inputs, (patches, *builder.operations, mean, classes), formats=builder.formats)


class VisionTransformers(Frontend):
    """By their sizes."""

    forms = ("vit_IMAGE_PATCH_HIDDEN_HEADS_INTERMEDIATE[_LAYERS]",)
    _form = re.compile(r"vit((?:_[0-9]+){5,6})")

    def recognises(self, text: str) -> bool:
        return self._form.fullmatch(text) is not None

    def load(self, text: str) -> Graph:
        match = self._form.fullmatch(text)
        assert match
        image, patch, hidden, heads, intermediate, *layers = (whole_number(part) or 0 for part in match[1][1:].split("_"))
        return vision_transformer(image, patch, DecoderSizes(hidden, heads, heads, intermediate, *layers), text)
