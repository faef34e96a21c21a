"""Products of files in floating point, as onnxruntime's quantiser expects them."""

from __future__ import annotations

from typing import Any

import numpy as np

from podweave.ir.layers import WorkloadError

from ..program import extra


def plain_products(model: Any) -> None:
    """Every Gemm has a bias for each output, and factors of 1, as onnxruntime's quantiser expects it: constants take them over.

    Raises `WorkloadError` for a bias that differs from row to row.
    """
    with extra("onnx", "quantising ONNX files"):
        from onnx import helper, numpy_helper

    held = {each.name: each for each in model.graph.initializer}
    names = {*held, *(name for node in model.graph.node for name in (*node.input, *node.output))}
    for node in model.graph.node:
        if node.op_type != "Gemm" or node.input[1] not in held:
            continue
        given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        weights = numpy_helper.to_array(held[node.input[1]])
        made = {1: weights * weights.dtype.type(given.get("alpha", 1.0))}
        if len(node.input) > 2 and node.input[2] in held:
            bias = numpy_helper.to_array(held[node.input[2]])
            if bias.ndim > 1 and bias.shape[0] > 1:
                name = node.name or node.output[0]
                raise WorkloadError(f"Gemm {name}: its bias {node.input[2]} differs from row to row: {list(bias.shape)}")
            outputs = weights.shape[0 if given.get("transB", 0) else 1]
            made[2] = np.broadcast_to(bias.reshape(-1), (outputs,)) * bias.dtype.type(given.get("beta", 1.0))
        elif len(node.input) > 2 and node.input[2]:
            continue
        for index, values in made.items():
            before = numpy_helper.to_array(held[node.input[index]])
            if before.shape == values.shape and np.array_equal(before, values):
                continue
            name = f"{node.input[index]}_{node.output[0]}"
            while name in names:
                name += "_"
            names.add(name)
            model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
            node.input[index] = name
        kept = [each for each in node.attribute if each.name not in ("alpha", "beta")]
        del node.attribute[:]
        node.attribute.extend(kept)
    read = {name for node in model.graph.node for name in node.input} | {each.name for each in model.graph.output}
    left = [each for each in model.graph.initializer if each.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(left)
