"""ir.layers: the text form, what it refuses, and sizes that agree with the golden model."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.golden.layers.conv import output_size
from podweave.ir.layers import CONV_FORM, GEMM_FORM, MAX_MACS, MAX_SIZE, Layer, WorkloadError, gemm, parse_workload

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
        (",padding=1x2x3x4", {"padding": ((1, 2), (3, 4))}),
        (",padding=valid", {}),
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
            for text in ("", "gemm:5x6", "gemm:5x6x7x8", "gemm:5x-6x7", "gemm:5x6x7 ", "gemm:5x6x²", "Gemm:5x6x7", "conv:8x8x4")
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
        *(
            (
                f"{CONV},padding={value}",
                f"{CONV},padding={value}: padding must be N, NxN, TxBxLxR (top, bottom, left, right), same or valid, got {value!r}",
            )
            for value in ("1x1x1", "1x1x1x1x1", "full", "1x", "x1", "samex1")
        ),
        (CONV + ",kernel=3x3", CONV + ",kernel=3x3: option 'kernel' is given more than once"),
        (CONV + ",stride=1x1x1", CONV + ",stride=1x1x1: stride must be N or NxN, got '1x1x1'"),
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


LARGE = "9" * 20


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (f"gemm:{LARGE}x1x1", "M"),
        (f"gemm:1x{LARGE}x1", "K"),
        (f"gemm:1x1x{LARGE}", "N"),
        ("gemm:1048577x1x1", "M"),
        (f"conv:{LARGE}x8x4x4,kernel=1", "height"),
        (f"conv:8x{LARGE}x4x4,kernel=1", "width"),
        (f"conv:8x8x{LARGE}x4,kernel=1", "channels"),
        (f"conv:8x8x4x{LARGE},kernel=1", "outputs"),
        (f"conv:8x8x4x4,kernel={LARGE}", "kernel"),
        (f"conv:8x8x4x4,kernel=1,stride={LARGE}", "stride"),
        (f"conv:8x8x4x4,kernel=1,stride=1x{LARGE}", "stride"),
        (f"conv:8x8x4x4,kernel=1,dilation={LARGE}", "dilation"),
        (f"conv:8x8x4x4,kernel=1,padding={LARGE}", "padding"),
        (f"conv:8x8x4x4,kernel=1,padding=0x0x0x{LARGE}", "padding"),
        (f"conv:8x8x4x4,kernel=1,groups={LARGE}", "groups"),
        (f"conv:8x8x{LARGE}x4,kernel=1,groups=depthwise", "channels"),
        (f"conv:8x8x4x4,kernel=1,batch={LARGE}", "batch"),
        # More digits than Python reads.
        (f"gemm:1x1x{'7' * 5000}", "N"),
        (f"conv:8x8x4x4,kernel=1,padding=same,batch={'7' * 5000}", "batch"),
    ],
)
def test_a_size_beyond_the_limit_is_refused(text: str, rule: str) -> None:
    with pytest.raises(WorkloadError, match=rf": {rule} must be at most 1,048,576, got ") as refused:
        parse_workload(text)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("conv:1048576x8192x1x1,kernel=1", "the padded input has 8,589,934,592 numbers, more than 4,294,967,296"),
        ("conv:8x8x1x1,kernel=1,padding=1048576,stride=1048576", "the padded input has 4,398,080,065,600 numbers, more than"),
        ("gemm:1x1048576x8192", "the weights have 8,589,934,592 numbers, more than 4,294,967,296"),
        ("gemm:1048576x1x8192", "the output has 8,589,934,592 numbers, more than 4,294,967,296"),
        ("conv:1023x1023x1000x1000,kernel=63x63,padding=31", "the layer has 4,153,673,601,000,000 multiplications"),
    ],
)
def test_a_layer_beyond_the_limits_of_tensors_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(WorkloadError, match=f"^{text}: {sentence}"):
        parse_workload(text)


def test_what_people_have_is_within_the_limits() -> None:
    for text in (
        # Llama 3 70B: a prefill of 128 k tokens through its feed-forward layer, and its vocabulary.
        "gemm:131072x8192x28672",
        "gemm:16384x8192x128256",
        # An 8k image through the first layer of a ResNet, and batches of usual ones.
        "conv:4320x7680x3x64,kernel=7x7,stride=2,padding=3",
        "conv:4320x7680x64x64,kernel=3x3,padding=same",
        "conv:224x224x3x64,kernel=7x7,stride=2,padding=3,batch=1024",
    ):
        assert parse_workload(text).macs <= MAX_MACS
    assert parse_workload(f"gemm:{MAX_SIZE}x1x1").positions == MAX_SIZE


def test_a_run_with_values_has_a_limit_of_its_own() -> None:
    parse_workload("gemm:16384x16384x1").require_values_fit()
    for text, numbers in (("gemm:16384x16385x1", 268_451_840), ("conv:4096x4096x1x1,kernel=5x5", 418_611_600)):
        layer = parse_workload(text)
        with pytest.raises(WorkloadError, match=f"^{text}: with values, .* at most 268,435,456 numbers, got {numbers:,}$"):
            layer.require_values_fit()
