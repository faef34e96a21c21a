"""golden.layers.linear against onnxruntime: sums of ConvInteger, QLinearAdd for residuals, MaxPool and AveragePool."""

from functools import cache
from typing import Any

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from podweave.golden.layers.conv import conv2d, output_size
from podweave.golden.layers.linear import Operand, Window, accumulate, linear_node
from podweave.golden.layers.post import post_process
from podweave.golden.layers.requant import requantize
from podweave.ir.quantise import activation_table, gelu, quantize_scale, relu

INT32 = np.iinfo(np.int32)


@cache
def session(graph: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    header = '<ir_version: 8, opset_import: ["": 13, "com.microsoft": 1]> '
    model = onnx.parser.parse_model(header + graph).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(graph: str, **inputs: Any) -> NDArray:
    """``graph`` on arrays of NHWC; weights (of names that begin with w) are (KH, KW, I, O)."""
    inputs = {
        name: array.transpose(3, 2, 0, 1) if name[0] == "w" else array.transpose(0, 3, 1, 2) if array.ndim == 4 else array
        for name, array in inputs.items()
    }
    (y,) = session(graph).run(None, inputs)
    return np.asarray(y).transpose(0, 2, 3, 1)


def offset(array: NDArray[np.int8]) -> NDArray[np.uint8]:
    # As in test_conv: uint8 with zero point 128, so that no 16-bit sum of onnxruntime saturates.
    return (array.astype(np.int16) + 128).astype(np.uint8)


def onnxruntime_accumulate(operands: list[Operand]) -> NDArray[np.int32]:
    """Every operand by ConvInteger, which pads with the zero point; other values of padding are put there before."""
    parameters, body, inputs = [], [], {"zero": np.array(128, dtype=np.uint8)}
    for i, operand in enumerate(operands):
        (top, bottom), (left, right) = operand.padding
        x = np.full(
            (operand.x.shape[0], operand.x.shape[1] + top + bottom, operand.x.shape[2] + left + right, operand.x.shape[3]),
            operand.pad_value,
            dtype=np.int8,
        )
        x[:, top : top + operand.x.shape[1], left : left + operand.x.shape[2]] = operand.x
        parameters.append(f"uint8[N{i},C{i},H{i},W{i}] x{i}, uint8[O,I{i},KH{i},KW{i}] w{i}")
        attributes = f"strides={list(operand.stride)}, dilations={list(operand.dilation)}, group={operand.groups}"
        body.append(f"a{i} = ConvInteger<{attributes}>(x{i}, w{i}, zero, zero)")
        body.append(f"s{i} = Add(s{i - 1}, a{i})" if i else "s0 = Identity(a0)")
        inputs |= {f"x{i}": offset(x), f"w{i}": offset(operand.w)}
    last = f"s{len(operands) - 1}"
    graph = f"sum ({', '.join(parameters)}, uint8 zero) => (int32[N,O,OH,OW] {last}) {{ {'; '.join(body)} }}"
    return run(graph.replace("; ", "\n"), **inputs)


def random_int8(rng: np.random.Generator, *shape: int) -> NDArray[np.int8]:
    return rng.integers(-128, 128, shape, dtype=np.int8)


@st.composite
def nodes(draw: st.DrawFn) -> list[Operand]:
    """Up to three operands of different layers whose outputs agree: each input is made as large as its layer needs."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    batch, height, width, outputs = draw(st.integers(1, 2)), draw(st.integers(1, 5)), draw(st.integers(1, 5)), 12
    operands = []
    for _ in range(draw(st.integers(1, 3))):
        groups = draw(st.sampled_from([1, 2, 12]))
        channels = groups * draw(st.integers(1, 3))
        kernel, stride, dilation = ((draw(st.integers(1, 3)), draw(st.integers(1, 3))) for _ in range(3))
        sides = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(2)]
        size = [
            (count - 1) * s + d * (k - 1) + 1 - sum(side)
            for count, s, d, k, side in zip((height, width), stride, dilation, kernel, sides, strict=True)
        ]
        # No padding along an axis where it would leave no input.
        padding = [side if n > 0 else (0, 0) for side, n in zip(sides, size, strict=True)]
        size = [n if n > 0 else n + sum(side) for side, n in zip(sides, size, strict=True)]
        operands.append(
            Operand(
                random_int8(rng, batch, *size, channels),
                random_int8(rng, *kernel, channels // groups, outputs),
                stride,
                (padding[0], padding[1]),
                dilation,
                groups,
                draw(st.sampled_from([0, -128, 5])),
            )
        )
    return operands


@settings(derandomize=True, deadline=None, max_examples=100)
@given(nodes())
def test_sum_of_operands_equals_onnxruntime(operands: list[Operand]) -> None:
    assert_array_equal(accumulate(operands), onnxruntime_accumulate(operands), strict=True)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(nodes(), st.sampled_from(["max", "sum"]), st.data())
def test_node_equals_its_steps_in_plain_integers(operands: list[Operand], kind: Any, data: st.DataObject) -> None:
    acc = onnxruntime_accumulate(operands).astype(np.int64)
    kernel, stride = ((data.draw(st.integers(1, acc.shape[axis])), data.draw(st.integers(1, 3))) for axis in (1, 2))
    kernel, stride = (kernel[0], stride[0]), (kernel[1], stride[1])
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    bias = rng.integers(-(1 << 16), 1 << 16, 12, dtype=np.int32)
    multiplier, shift = quantize_scale(rng.uniform(1e-4, 1e-2, 12))
    table = data.draw(st.sampled_from([None, activation_table(relu), activation_table(gelu, 0.04, 0.05)]))
    reduced = np.stack(
        [
            np.stack(
                [
                    getattr(acc[:, y : y + kernel[0], x : x + kernel[1]], kind)(axis=(1, 2))
                    for x in range(0, acc.shape[2] - kernel[1] + 1, stride[1])
                ],
                axis=1,
            )
            for y in range(0, acc.shape[1] - kernel[0] + 1, stride[0])
        ],
        axis=1,
    )
    # Python's integers: no width, floor division by the power of two.
    scaled = (reduced + bias).astype(object) * multiplier.astype(object)
    half = np.array([(1 << int(s)) >> 1 for s in shift], dtype=object)
    rounded = np.where(scaled < 0, -((-scaled + half) >> shift.astype(object)), (scaled + half) >> shift.astype(object))
    expected = np.clip(rounded.astype(np.float64), -128, 127).astype(np.int8)
    if table is not None:
        expected = table[expected.astype(np.int64) & 0xFF]
    assert_array_equal(linear_node(operands, Window(kind, kernel, stride), bias, multiplier, shift, table), expected, strict=True)


QLINEAR_ADD = """add (int8[N,C,H,W] a, float sa, int8[N,C,H,W] b, float sb, float sc, int8 zero) => (int8[N,C,H,W] y)
{ y = com.microsoft.QLinearAdd(a, sa, zero, b, sb, zero, sc, zero) }"""


def diagonal(value: int, channels: int) -> NDArray[np.int8]:
    """Weights that multiply every channel by ``value``, for ``groups=channels``."""
    return np.full((1, 1, 1, channels), value, dtype=np.int8)


@pytest.mark.parametrize(("wa", "wb", "shift"), [(1, 1, 1), (127, 64, 8), (-3, 5, 3), (99, -100, 7)])
def test_residual_equals_qlinearadd_off_ties(wa: int, wb: int, shift: int) -> None:
    rng = np.random.default_rng(0)
    a, b = random_int8(rng, 2, 7, 9, 16), random_int8(rng, 2, 7, 9, 16)
    # The weights are the scales. Everything is exact in float32 but for the rounding: theirs is half to even.
    scales = {name: np.array(value, dtype=np.float32) for name, value in (("sa", wa), ("sb", wb), ("sc", 1 << shift))}
    theirs = run(QLINEAR_ADD, a=a, b=b, zero=np.array(0, dtype=np.int8), **scales)
    operands = [Operand(a, diagonal(wa, 16), groups=16), Operand(b, diagonal(wb, 16), groups=16)]
    ours = linear_node(operands, None, np.zeros(16, dtype=np.int32), 1, shift)
    real = (a.astype(np.float64) * wa + b.astype(np.float64) * wb) / (1 << shift)
    off_tie = real - np.floor(real) != 0.5
    assert off_tie.mean() > 0.4
    assert_array_equal(ours[off_tie], theirs[off_tie], strict=True)
    ties = ~off_tie & (np.abs(real) < 127)
    away = np.copysign(np.floor(np.abs(real[ties]) + 0.5), real[ties])
    assert_array_equal(ours[ties], away.astype(np.int8))
    lost = linear_node(operands[:1], None, np.zeros(16, dtype=np.int32), 1, shift)
    with pytest.raises(AssertionError, match="Mismatched"):
        assert_array_equal(lost[off_tie], theirs[off_tie], strict=True)


MAX_POOL = "pool (int8[N,C,H,W] x) => (int8[N,C,OH,OW] y) { y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x) }"


@pytest.mark.parametrize("pad_value", [-128, 0])
def test_padded_max_pool_node_equals_onnxruntime(pad_value: int) -> None:
    x = random_int8(np.random.default_rng(0), 2, 11, 12, 16)
    x[..., :4] = np.minimum(x[..., :4], -1)
    node = [Operand(x, diagonal(1, 16), padding=((1, 1), (1, 1)), groups=16, pad_value=pad_value)], Window("max", (3, 3), (2, 2))
    ours = linear_node(*node, bias=np.zeros(16, dtype=np.int32), multiplier=1, shift=0)
    theirs = run(MAX_POOL, x=x)
    if pad_value == -128:
        assert_array_equal(ours, theirs, strict=True)
    else:
        # Padding with 0 would hide negative values: the comparison sees it.
        with pytest.raises(AssertionError, match="Mismatched"):
            assert_array_equal(ours, theirs, strict=True)


GLOBAL_AVERAGE_POOL = "pool (float[N,C,H,W] x) => (float[N,C,1,1] y) { y = GlobalAveragePool(x) }"


def test_global_average_pool_node_equals_onnxruntime_off_ties() -> None:
    x = random_int8(np.random.default_rng(0), 20, 7, 6, 16)
    x[10:] = np.maximum(x[10:], 0)
    node = [Operand(x, diagonal(1, 16), groups=16)], Window("sum", (7, 6), (1, 1))
    ours = linear_node(*node, np.zeros(16, dtype=np.int32), *quantize_scale(1 / 42))
    real = run(GLOBAL_AVERAGE_POOL, x=x.astype(np.float32)).astype(np.float64)
    # float32 errs by less than 1e-4 of a step here; a sum of 42 is a tie or at least 1/42 of a step from one.
    off_tie = np.abs(real - np.floor(real) - 0.5) > 1e-3
    assert off_tie.mean() > 0.9
    assert_array_equal(ours[off_tie], np.rint(real[off_tie]).astype(np.int8), strict=True)


def test_one_operand_is_a_requantised_convolution() -> None:
    rng = np.random.default_rng(0)
    x, w = random_int8(rng, 2, 6, 7, 8), random_int8(rng, 3, 3, 8, 5)
    bias = rng.integers(-1000, 1000, 5, dtype=np.int32)
    operand = Operand(x, w, (2, 1), ((1, 0), (1, 1)))
    acc = conv2d(x, w, stride=(2, 1), padding=((1, 0), (1, 1)))
    assert_array_equal(linear_node([operand], None, bias, 3, 9), post_process(acc, bias, 3, 9), strict=True)
    assert_array_equal(linear_node([operand], None, bias * 0, 3, 9), requantize(acc, 3, 9), strict=True)
    assert acc.shape[1] == output_size(6, 3, 2, 1, 0)


def test_concatenated_channels_are_two_operands() -> None:
    rng = np.random.default_rng(0)
    a, b, w = random_int8(rng, 1, 5, 5, 3), random_int8(rng, 1, 5, 5, 4), random_int8(rng, 3, 3, 7, 6)
    apart = accumulate([Operand(a, w[:, :, :3]), Operand(b, w[:, :, 3:])])
    assert_array_equal(accumulate([Operand(np.concatenate([a, b], axis=3), w)]), apart, strict=True)


def test_sums_up_to_the_ends_of_int32() -> None:
    x, w = np.full((1, 4, 4, 4096), -128, dtype=np.int8), np.full((4, 4, 4096, 1), -128, dtype=np.int8)
    # Twice the largest sum of one operand, 2**30, is one too many; taking 16384 of it is not.
    largest = Operand(x, w)
    one = np.ones((1, 1, 1, 1), dtype=np.int8)
    less = Operand(-one, one)
    assert accumulate([largest, largest, less]).item() == INT32.max
    assert accumulate([Operand(x, ~w), Operand(x, ~w)]).item() == -(1 << 17) * 128 * 127
    with pytest.raises(OverflowError, match="a sum of operands must be an int32, got 2147483648"):
        accumulate([largest, largest])


@pytest.mark.parametrize("fault", ["weight", "operand lost", "pad value", "groups", "result"])
def test_comparison_sees_a_fault(fault: str) -> None:
    rng = np.random.default_rng(0)
    operands = [
        Operand(random_int8(rng, 1, 6, 6, 4), random_int8(rng, 3, 3, 4, 8), padding=((1, 1), (1, 1)), pad_value=3),
        Operand(random_int8(rng, 1, 6, 6, 8), random_int8(rng, 1, 1, 4, 8), groups=2),
    ]
    expected = onnxruntime_accumulate(operands)
    assert_array_equal(accumulate(operands), expected, strict=True)
    if fault == "weight":
        operands[1].w[0, 0, 1, 3] ^= 1
    if fault == "operand lost":
        operands.pop()
    if fault == "pad value":
        operands[0] = operands[0]._replace(pad_value=0)
    if fault == "groups":
        operands[1] = operands[1]._replace(x=operands[1].x[..., :4], groups=1)
    got = accumulate(operands)
    if fault == "result":
        got[0, 1, 2, 3] ^= 1
    with pytest.raises(AssertionError, match=r"mismatch|Mismatched"):
        assert_array_equal(got, expected, strict=True)


X = np.zeros((1, 4, 4, 2), dtype=np.int8)
W = np.zeros((3, 3, 2, 5), dtype=np.int8)


@pytest.mark.parametrize(
    ("operands", "error", "sentence"),
    [
        ([], ValueError, "an operation needs at least one operand"),
        ([Operand(X, W), Operand(X, W, (2, 2))], ValueError, r"same shape, got \(1, 2, 2, 5\) and \(1, 1, 1, 5\)"),
        ([Operand(X, W), Operand(X, W[..., :1])], ValueError, r"same shape, got \(1, 2, 2, 5\) and \(1, 2, 2, 1\)"),
        ([Operand(X.astype(np.int16), W)], TypeError, "x must be an int8 array, got int16"),
        ([Operand(X, W.astype(np.int32))], TypeError, "w must be an int8 array, got int32"),
        ([Operand(X, W, pad_value=-129)], ValueError, r"padding must be in \[-128, 127\], got -129"),
        ([Operand(X, W, groups=2)], ValueError, "groups must divide the output channels"),
    ],
)
def test_refusals(operands: list[Operand], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        linear_node(operands, None, np.zeros(5, dtype=np.int32), 1, 0)
