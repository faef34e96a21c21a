"""compiler.layers: the text form, what it refuses, and sizes that agree with the golden model."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.golden.layers.conv import output_size
from podweave.ir.layers import CONV_FORM, GEMM_FORM, Layer, WorkloadError, gemm, parse_workload

CONV = "conv:8x9x4x6,kernel=3x3"


def test_gemm_is_a_1x1_convolution_of_an_image_one_pixel_high() -> None:
    layer = parse_workload("gemm:5x6x7")
    assert layer == gemm(5, 6, 7)
    assert layer == Layer(name="gemm:5x6x7", height=1, width=5, channels=6, outputs=7, is_gemm=True)
    assert layer.input_shape == (1, 1, 5, 6)
    assert layer.weight_shape == (1, 1, 6, 7)
    assert layer.output_size == (1, 5)
    assert (layer.positions, layer.reduction, layer.macs) == (5, 6, 210)
    assert gemm(5, 6, 7, name="fc").name == "fc"


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ("", {}),
        (",stride=2", {"stride": (2, 2)}),
        (",stride=2x1", {"stride": (2, 1)}),
        (",padding=1", {"padding": ((1, 1), (1, 1))}),
        (",padding=0x2", {"padding": ((0, 0), (2, 2))}),
        (",padding=same", {"padding": ((1, 1), (1, 1))}),
        # 8 rows: windows at 0, 2, 4, 6 end at row 8, one more than there is; 9 columns: at 0, 2, 4, 6, 8 end at 10, two more.
        (",padding=same,stride=2", {"stride": (2, 2), "padding": ((0, 1), (1, 1))}),
        (",dilation=2,padding=same", {"dilation": (2, 2), "padding": ((2, 2), (2, 2))}),
        (",dilation=1x2", {"dilation": (1, 2)}),
        (",groups=2", {"groups": 2}),
        (",batch=3", {"batch": 3}),
        (",batch=2,groups=2,dilation=2,padding=2,stride=3", None),
    ],
)
def test_convolution_options(options: str, fields: dict[str, Any] | None) -> None:
    if fields is None:
        fields = {"batch": 2, "groups": 2, "dilation": (2, 2), "padding": ((2, 2), (2, 2)), "stride": (3, 3)}
    text = CONV + options
    assert parse_workload(text) == Layer(name=text, height=8, width=9, channels=4, outputs=6, kernel=(3, 3), **fields)


def test_one_size_of_a_kernel_is_both_and_depthwise_is_a_group_per_channel() -> None:
    layer = parse_workload("conv:8x8x4x8,kernel=3,groups=depthwise")
    assert (layer.kernel, layer.groups, layer.reduction) == ((3, 3), 4, 9)
    assert layer.weight_shape == (3, 3, 1, 8)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        *(
            (text, f"workload {text!r} is not of the form {GEMM_FORM} or {CONV_FORM}")
            for text in ("", "gemm:5x6", "gemm:5x6x7x8", "gemm:5x-6x7", "gemm:5x6x7 ", "Gemm:5x6x7", "conv:8x8x4", "gemm:axbxc")
        ),
        ("conv:8x8x4x4,kernel=3x3,", None),
        ("conv:8x8x4x4,kernel", None),
        ("gemm:0x6x7", "gemm:0x6x7: M must be at least 1, got 0"),
        ("gemm:5x0x7", "gemm:5x0x7: K must be at least 1, got 0"),
        ("gemm:5x6x0", "gemm:5x6x0: N must be at least 1, got 0"),
        ("conv:8x8x4x4", "conv:8x8x4x4: kernel=HxW is missing"),
        (
            CONV + ",strides=2",
            CONV + ",strides=2: unknown option 'strides'; allowed: kernel, stride, padding, dilation, groups, batch",
        ),
        (CONV + ",stride=same", CONV + ",stride=same: stride must be N or NxN, got 'same'"),
        (CONV + ",padding=1x1x1", CONV + ",padding=1x1x1: padding must be N or NxN, got '1x1x1'"),
        (CONV + ",stride=0", CONV + ",stride=0: kernel, stride and dilation must be at least 1"),
        (CONV + ",dilation=1x0", CONV + ",dilation=1x0: kernel, stride and dilation must be at least 1"),
        ("conv:8x8x4x4,kernel=0", "conv:8x8x4x4,kernel=0: kernel, stride and dilation must be at least 1"),
        (CONV + ",groups=all", CONV + ",groups=all: groups must be a number or depthwise, got 'all'"),
        (CONV + ",batch=2x2", CONV + ",batch=2x2: batch must be a number, got '2x2'"),
        (CONV + ",batch=0", CONV + ",batch=0: batch must be at least 1, got 0"),
        (CONV + ",groups=0", CONV + ",groups=0: groups must be at least 1, got 0"),
        (CONV + ",groups=3", CONV + ",groups=3: channels (4) must be a multiple of groups (3)"),
        (CONV + ",groups=4", CONV + ",groups=4: outputs (6) must be a multiple of groups (4)"),
        ("conv:0x8x4x4,kernel=1", "conv:0x8x4x4,kernel=1: height must be at least 1, got 0"),
        ("conv:8x8x4x0,kernel=1", "conv:8x8x4x0,kernel=1: outputs must be at least 1, got 0"),
        (
            "conv:3x8x4x4,kernel=3,dilation=2,padding=0",
            "conv:3x8x4x4,kernel=3,dilation=2,padding=0: the kernel spans 5 in height, but the padded input has 3 (3)",
        ),
        (
            "conv:8x4x4x4,kernel=9,padding=1x2",
            "conv:8x4x4x4,kernel=9,padding=1x2: the kernel spans 9 in width, but the padded input has 8 (4)",
        ),
    ],
)
def test_refused_text(text: str, sentence: str | None) -> None:
    if text == "conv:8x4x4x4,kernel=9,padding=1x2":
        # The height of 10 holds it; the width does not.
        assert parse_workload("conv:8x5x4x4,kernel=9,padding=1x2").output_size == (2, 1)
    expected = sentence or f"workload {text!r} is not of the form {GEMM_FORM} or {CONV_FORM}"
    with pytest.raises(WorkloadError, match=f"^{re.escape(expected)}$"):
        parse_workload(text)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch": 0}, "x: batch must be at least 1, got 0"),
        ({"channels": 0}, "x: channels must be at least 1, got 0"),
        ({"kernel": (0, 1)}, r"x: kernel must be at least 1, got \(0, 1\)"),
        ({"stride": (1, 0)}, r"x: stride must be at least 1, got \(1, 0\)"),
        ({"dilation": (0, 0)}, r"x: dilation must be at least 1, got \(0, 0\)"),
        ({"padding": ((0, -1), (0, 0))}, r"x: padding must be at least 0, got \(\(0, -1\), \(0, 0\)\)"),
    ],
)
def test_refused_layer(changes: dict[str, Any], sentence: str) -> None:
    fields: dict[str, Any] = {"name": "x", "height": 4, "width": 4, "channels": 4, "outputs": 4}
    assert Layer(**fields).positions == 16
    with pytest.raises(WorkloadError, match=f"^{sentence}$"):
        Layer(**fields | changes)


sides = st.tuples(st.integers(0, 3), st.integers(0, 3))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(sides, sides),
)
def test_sizes_and_refusals_are_those_of_the_golden_model(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    fields: dict[str, Any] = {"height": size[0], "width": size[1], "kernel": kernel, "stride": stride, "dilation": dilation}
    try:
        golden = tuple(output_size(size[i], kernel[i], stride[i], *padding[i], dilation[i]) for i in range(2))
    except ValueError:
        with pytest.raises(WorkloadError, match="the kernel spans"):
            Layer(name="x", channels=6, outputs=4, groups=2, batch=3, padding=padding, **fields)
        return
    layer = Layer(name="x", channels=6, outputs=4, groups=2, batch=3, padding=padding, **fields)
    assert layer.output_size == golden
    assert layer.positions == 3 * golden[0] * golden[1]
    assert layer.reduction == kernel[0] * kernel[1] * 3
    assert layer.macs == layer.positions * layer.reduction * 4


@settings(derandomize=True, deadline=None, max_examples=100)
@given(*(st.integers(1, n) for n in (20, 20, 5, 5, 4, 3)))
def test_same_padding_gives_one_output_per_stride(height: int, width: int, kh: int, kw: int, stride: int, dilation: int) -> None:
    layer = parse_workload(f"conv:{height}x{width}x1x1,kernel={kh}x{kw},stride={stride},dilation={dilation},padding=same")
    assert layer.output_size == (-(-height // stride), -(-width // stride))
    # The odd zero, if any, goes behind, as in TensorFlow.
    assert all(0 <= after - before <= 1 for before, after in layer.padding)


def test_an_option_given_twice_is_refused() -> None:
    with pytest.raises(WorkloadError, match="option 'stride' is given more than once"):
        parse_workload("conv:8x8x4x4,kernel=3x3,stride=2,stride=3")
