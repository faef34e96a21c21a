"""Transformers from ONNX files: operations on rows in floating point, and the same in integers."""

from .floats import FloatAttention, FloatGelu, FloatLinear, FloatNetwork, FloatNorm, FloatOperation, Mask
from .integers import IntegerRows, RowFileError, RowFiles, RowTensor, is_row_file, load_rows, row_file
from .read import read_rows, rows_of

__all__ = [
    "FloatAttention",
    "FloatGelu",
    "FloatLinear",
    "FloatNetwork",
    "FloatNorm",
    "FloatOperation",
    "IntegerRows",
    "Mask",
    "RowFileError",
    "RowFiles",
    "RowTensor",
    "is_row_file",
    "load_rows",
    "read_rows",
    "row_file",
    "rows_of",
]
