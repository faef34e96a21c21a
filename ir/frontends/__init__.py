"""Networks as graphs of layers: the topologies that come with podweave, and guesses for bare lists of layers."""

from __future__ import annotations

from .cnn import ConvolutionalNetworks, densenet, densenet121, inception_v3, resnet, resnet50
from .encoders import Encoders
from .guessed_chain import chain
from .language_models import LanguageModels
from .lists import Files, KnownLists, SingleLayers
from .registry import (
    Frontend,
    LayerList,
    ListFrontend,
    load_graph,
    load_layers,
    load_workload,
    register,
    require_layers,
    with_options,
    workload_forms,
)
from .segmentation import SegmentationNetworks, UNetSizes, unet
from .transformer import Transformers, bert, bert_named, feed_forward
from .vision import VisionTransformers

__all__ = [
    "Frontend",
    "LayerList",
    "ListFrontend",
    "UNetSizes",
    "bert",
    "bert_named",
    "chain",
    "densenet",
    "densenet121",
    "feed_forward",
    "inception_v3",
    "load_graph",
    "load_layers",
    "load_workload",
    "register",
    "require_layers",
    "resnet",
    "resnet50",
    "unet",
    "with_options",
    "workload_forms",
]

# A file or a layer is recognised by its form, a topology before the list of the same name.
for _frontend in (
    SingleLayers(),
    Files(),
    ConvolutionalNetworks(),
    Transformers(),
    LanguageModels(),
    Encoders(),
    VisionTransformers(),
    SegmentationNetworks(),
    KnownLists(),
):
    register(_frontend)
