"""The CNN of the digits as it was trained, as an ONNX file that onnxruntime has quantised on images of the training set."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from podweave.digits import IMAGE_SCALE, float_layers, has_relu, training_images
from podweave.digits import digits_graph as graph_of

BATCH = 25


def float_model(batch: int = BATCH) -> Any:
    nodes, held = [], []
    layers, graph = float_layers(), graph_of(1)
    names = {"image": "image"}
    for operation in graph.operations:
        source, name = names[operation.operands[0].sources[0]], operation.name
        if operation.name in layers:
            layer = layers[operation.name]
            held += [
                numpy_helper.from_array(np.ascontiguousarray(layer.weights.transpose(3, 2, 0, 1)), f"{name}.weights"),
                numpy_helper.from_array(layer.bias, f"{name}.bias"),
            ]
            side = layer.weights.shape[0] // 2
            nodes.append(helper.make_node("Conv", [source, f"{name}.weights", f"{name}.bias"], [name], name=name, pads=[side] * 4))
            for operand in operation.operands[1:]:
                nodes.append(helper.make_node("Add", [name, names[operand.sources[0]]], [f"{name}.sum"], name=f"{name}.sum"))
                name = f"{name}.sum"
            if has_relu(operation):
                nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"], name=f"{name}.relu"))
                name = f"{name}.relu"
        elif operation.window and operation.window.reduce == "max":
            nodes.append(helper.make_node("MaxPool", [source], [name], name=name, kernel_shape=[2, 2], strides=[2, 2]))
        else:
            nodes.append(helper.make_node("GlobalAveragePool", [source], [name], name=name))
        names[operation.name] = name
    nodes.append(helper.make_node("Flatten", [names["logits"]], ["classes"], name="classes"))
    x = helper.make_tensor_value_info("image", TensorProto.FLOAT, (batch, 1, 8, 8))
    y = helper.make_tensor_value_info("classes", TensorProto.FLOAT, (batch, 10))
    whole = helper.make_graph(nodes, "digits", [x], [y], held)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def real(pixels: NDArray[np.int8]) -> NDArray[np.float32]:
    """Images of the file, of pixels (B, 8, 8, 1)."""
    return (pixels.astype(np.float32) * np.float32(IMAGE_SCALE)).transpose(0, 3, 1, 2)


class Training(CalibrationDataReader):
    def __init__(self) -> None:
        pixels, _ = training_images()
        self.left = iter([{"image": real(pixels[at : at + BATCH])} for at in range(0, 500, BATCH)])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self.left, None)


def digits_file(folder: Path) -> Path:
    plain, file = folder / "float.onnx", folder / "digits.onnx"
    onnx.save(float_model(), plain)
    logging.disable(logging.WARNING)
    try:
        quantize_static(
            str(plain),
            str(file),
            Training(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
    finally:
        logging.disable(logging.NOTSET)
    return file
