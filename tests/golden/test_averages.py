"""golden.graph: averages that leave pads out against onnxruntime's AveragePool, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from podweave.golden.graph import evaluate
from podweave.ir.constants import Constants, identity_parameters, with_scale_bits
from podweave.ir.graph import Graph
from podweave.ir.layers import Layer, WorkloadError
from podweave.ir.operations import Linear, Operand, Window
from podweave.ir.verify import verify, verify_constants

Pairs = tuple[tuple[int, int], tuple[int, int]]


def average(size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: Pairs) -> Linear:
    layer = Layer(name="mean", batch=2, height=size[0], width=size[1], channels=3, outputs=3, groups=3, padding=padding)
    return Linear("mean", (Operand(("in",), layer),), Window("sum", kernel, stride, leaves_pads_out=True), identity=True)


def oracle(x: NDArray, operation: Linear, include: int) -> NDArray[np.float64]:
    window, ((top, bottom), (left, right)) = operation.window, operation.operands[0].layer.padding
    assert window is not None
    pads = f"count_include_pad={include}, kernel_shape={list(window.kernel)}, strides={list(window.stride)}"
    attributes = f"{pads}, pads=[{top}, {left}, {bottom}, {right}]"
    body = f"mean (float[N,C,H,W] x) => (float[N,C,OH,OW] y) {{ y = AveragePool<{attributes}>(x) }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 13]> {body}').SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x.transpose(0, 3, 1, 2).astype(np.float32)})
    return np.asarray(y, np.float64).transpose(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((6, 7), (3, 3), (1, 1), ((1, 1), (1, 1))),
        ((6, 8), (3, 5), (2, 2), ((1, 0), (2, 1))),
        ((5, 4), (4, 3), (3, 1), ((3, 2), (0, 2))),
        ((4, 4), (2, 2), (2, 2), ((0, 0), (0, 0))),
    ],
)
def test_averages_are_those_of_onnxruntime(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: Pairs
) -> None:
    operation = average(size, kernel, stride, padding)
    graph = verify(Graph("g", {"in": (2, *size, 3)}, (operation,)))
    x = np.random.default_rng(0).integers(-128, 128, (2, *size, 3), dtype=np.int8)
    counts = np.rint(oracle(np.ones_like(x), operation, include=1) * np.prod(kernel)).astype(int)
    assert set(operation.border_counts) == set(counts.ravel().tolist()) - {int(np.prod(kernel))}
    sums = np.rint(oracle(x, operation, include=0) * counts).astype(int)
    found = evaluate(graph, {"mean": identity_parameters(operation)}, {"in": x})["mean"].astype(int)
    # The nearest integer; of a half, one of the two.
    assert (np.abs(found * counts - sums) * 2 <= counts).all()
    whole = counts == np.prod(kernel)
    plain = dataclasses.replace(operation, window=Window("sum", kernel, stride))
    padded = evaluate(Graph("g", graph.inputs, (plain,)), {"mean": identity_parameters(plain)}, {"in": x})["mean"]
    assert_array_equal(found[whole], padded[whole])
    assert whole.all() or (found != padded).any()


def test_what_is_refused() -> None:
    operation = average((4, 4), (3, 3), (1, 1), ((1, 1), (1, 1)))
    (operand,), window = operation.operands, operation.window
    assert window is not None
    wide = dataclasses.replace(operand, layer=dataclasses.replace(operand.layer, kernel=(2, 2)))
    beyond = dataclasses.replace(operand, layer=dataclasses.replace(operand.layer, padding=((3, 0), (1, 1))))
    for change, sentence in (
        ({"window": dataclasses.replace(window, reduce="max")}, "mean: only sums of windows leave pads out"),
        ({"operands": (wide,)}, "mean: a window leaves out the pads of one operand with a 1x1 kernel and stride 1"),
        ({"operands": (beyond,)}, "mean: a window has nothing but pads, of which there are ((3, 0), (1, 1))"),
    ):
        with pytest.raises(WorkloadError) as caught:
            dataclasses.replace(operation, **change)
        assert str(caught.value) == sentence


def test_constants_that_are_refused() -> None:
    operation = average((4, 4), (3, 3), (1, 1), ((1, 1), (1, 1)))
    graph, held = Graph("g", {"in": (2, 4, 4, 3)}, (operation,)), identity_parameters(operation)
    assert sorted(held.border_scales) == [4, 6]
    verify_constants(graph, {"mean": held})
    fewer = dataclasses.replace(held, border_scales={4: held.border_scales[4]})
    with pytest.raises(WorkloadError, match=r"^g: mean takes scales of windows with \(4, 6\) positions, got \(4,\)$"):
        verify_constants(graph, {"mean": fewer})
    one = dataclasses.replace(held, border_scales=held.border_scales | {6: (held.multiplier[:1], held.shift)})
    with pytest.raises(WorkloadError, match=r"^g: mean takes scales of \(3,\) for 6 positions, got \(\(1,\), \(3,\)\)$"):
        verify_constants(graph, {"mean": one})


def test_scales_of_borders_are_part_of_the_digest_and_are_rounded() -> None:
    held = identity_parameters(average((4, 4), (3, 3), (1, 1), ((1, 1), (1, 1))))
    changed = dataclasses.replace(held, border_scales=held.border_scales | {4: (held.multiplier, held.shift)})
    moved = dataclasses.replace(held, border_scales={8: held.border_scales[4], 6: held.border_scales[6]})
    assert len({Constants({"mean": each}).digest for each in (held, changed, moved)}) == 3
    rounded = with_scale_bits({"mean": held}, 16)["mean"]
    for count, (multiplier, shift) in rounded.border_scales.items():
        assert multiplier.max() < 1 << 16
        # 1 / 4 and 1 / 6.
        assert_array_equal(np.abs(np.ldexp(multiplier.astype(float), -shift) * count - 1) <= 2**-16, True)
    assert with_scale_bits({"mean": held}, 31)["mean"] is held
