"""Networks from ONNX files: quantised ones keep their integers."""

from .frontend import HOST_OPS, ModelFiles, is_model_file, load_network
from .network import LIMITS, Network, QuantisedTensor
from .read import READ_QUANTISED, read_network

__all__ = [
    "HOST_OPS",
    "LIMITS",
    "READ_QUANTISED",
    "ModelFiles",
    "Network",
    "QuantisedTensor",
    "is_model_file",
    "load_network",
    "read_network",
]
