"""ir.frontends: topologies against the rows of their networks and against published counts."""

import re

import pytest

from podweave.ir.frontends import bert, densenet121, inception_v3, load_graph, load_workload, resnet50
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError, gemm
from podweave.ir.operations import Linear, Operand, Window
from podweave.ir.verify import verify
from tests.ir.frontends.graph_rows import expected, node, reads, rows, unread


@pytest.mark.parametrize(
    "name",
    ["resnet50_224", "resnet50_299", "densenet121_299", "inception_299", "bert_base_100", "bert_medium_100", "bert_tiny_100"],
)
def test_graph_multiplies_the_rows_of_its_network_in_their_order(name: str) -> None:
    graph = load_graph(name)
    assert graph.name == name
    assert rows(graph) == expected(load_workload(name))
    # One input, nothing computed in vain but what leaves the chip. BERT's K and V are read as weights, in time only.
    assert list(graph.inputs) == ["input"]
    after = {other for node in graph.operations for other in node.after}
    outputs = unread(graph) - after
    assert outputs == ({"MLM-Dense", "NSP"} if name.startswith("bert") else {"predictions"})


@pytest.mark.parametrize(("name", "gop"), [("resnet50_299", 14.42), ("bert_base_100", 17.47)])
def test_operations_are_those_that_sosa_counts(name: str, gop: float) -> None:
    """Totals of SOSA's benchmark set."""
    assert 2 * sum(m * k * n for _, m, k, n in rows(load_graph(name))) / 1e9 == pytest.approx(gop, abs=0.005)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet50_224", 25_636_712),
        ("resnet101_224", 44_707_176),
        ("resnet152_224", 60_419_944),
        ("densenet121_224", 8_062_504),
        ("densenet169_224", 14_307_880),
        ("densenet201_224", 20_242_984),
        ("inception_299", 23_851_784),
        ("vgg16_224", 138_357_544),
        ("vgg19_224", 143_667_240),
    ],
)
def test_parameters_are_those_that_keras_reports(name: str, parameters: int) -> None:
    """Totals of Model.summary() in Keras Applications, where a batch norm has four parameters per channel (three in Inception)."""
    total = 0
    for node_ in load_graph(name).operations:
        layer = node_.operands[0].layer
        if node_.identity:
            continue
        total += layer.reduction * layer.outputs
        if node_.name == "predictions":
            # With DenseNet's last batch norm, which comes after the concatenation.
            total += layer.outputs + (4 * layer.channels if name.startswith("densenet") else 0)
        elif name.startswith("vgg"):
            total += layer.outputs
        elif name.startswith("resnet"):
            total += (1 + 4) * layer.outputs
        elif name.startswith("densenet"):
            # Before the convolution, but for the first.
            total += 4 * (layer.outputs if node_.name == "conv1/conv" else layer.channels)
        else:
            total += 3 * layer.outputs
    assert total == parameters


def test_resnet50_connections() -> None:
    graph = load_graph("resnet50_224")
    assert graph.shape("conv1_conv") == (1, 112, 112, 64)
    pool = node(graph, "pool1_pool")
    assert (pool.output, pool.window, pool.operands[0].pad_value) == ((1, 56, 56, 64), Window("max", (3, 3), (2, 2)), -128)
    # A first block has a convolution in its shortcut, the others read the block before them.
    assert reads(graph, "conv3_block1_1_conv") == reads(graph, "conv3_block1_0_conv") == [("conv2_block3_3_conv",)]
    assert reads(graph, "conv3_block1_3_conv") == [("conv3_block1_2_conv",), ("conv3_block1_0_conv",)]
    assert reads(graph, "conv3_block2_3_conv") == [("conv3_block2_2_conv",), ("conv3_block1_3_conv",)]
    residual = node(graph, "conv3_block2_3_conv").operands[1].layer
    assert (residual.groups, residual.weight_shape, residual.output_size) == (512, (1, 1, 1, 512), (28, 28))
    # The stride of v1 is in the 1 x 1.
    assert node(graph, "conv3_block1_1_conv").operands[0].layer.stride == (2, 2)
    assert node(graph, "conv3_block1_2_conv").operands[0].layer.stride == (1, 1)
    assert sum(len(node.operands) == 2 for node in graph.operations) == 16
    assert graph.shape("conv5_block3_3_conv") == (1, 7, 7, 2048)
    assert node(graph, "avg_pool").window == Window("sum", (7, 7), (1, 1))
    assert reads(graph, "predictions") == [("avg_pool",)]


def test_without_classifier() -> None:
    for build, last in ((resnet50, "conv5_block3_3_conv"), (densenet121, "conv5_block16_2_conv"), (inception_v3, "conv2d_281")):
        whole, graph = build(299), build(299, classifier=False)
        assert graph.operations == whole.operations[:-2]
        assert graph.operations[-1].name == last


def test_densenet121_connections() -> None:
    graph = load_graph("densenet121_299")
    assert reads(graph, "conv2_block1_1_conv") == [("pool1",)]
    assert reads(graph, "conv2_block3_1_conv") == [("pool1", "conv2_block1_2_conv", "conv2_block2_2_conv")]
    assert reads(graph, "pool2_conv") == [("pool1", *(f"conv2_block{block}_2_conv" for block in range(1, 7)))]
    # 75 rows hold 37 pairs.
    assert (graph.shape("pool2_conv"), graph.shape("pool2_pool")) == ((1, 75, 75, 128), (1, 37, 37, 128))
    assert node(graph, "avg_pool").operands[0].layer.channels == 1024
    assert graph.shape("avg_pool") == (1, 1, 1, 1024)


def test_inception_connections() -> None:
    graph = load_graph("inception_299")
    assert graph.shape("pool2") == (1, 35, 35, 192)
    mixed0 = ("conv2d_193", "conv2d_195", "conv2d_198", "conv2d_199")
    assert reads(graph, "conv2d_200") == reads(graph, "conv2d_203") == reads(graph, "mixed1_pool") == [mixed0]
    # An average keeps the size, a maximum reduces it.
    assert (graph.shape("mixed1_pool"), graph.shape("mixed3_pool")) == ((1, 35, 35, 256), (1, 17, 17, 288))
    assert node(graph, "mixed1_pool").operands[0].pad_value == 0
    assert reads(graph, "conv2d_218") == [("conv2d_214", "conv2d_217", "mixed3_pool")]
    kernels = [node(graph, f"conv2d_{number}").operands[0].layer.kernel for number in (220, 221, 223, 224, 225, 226)]
    assert kernels == [(1, 7), (7, 1), (7, 1), (1, 7), (7, 1), (1, 7)]
    assert node(graph, "conv2d_220").operands[0].layer.padding == ((0, 0), (3, 3))
    # The ends of the last blocks stand side by side.
    assert reads(graph, "conv2d_275") == reads(graph, "conv2d_276") == [("conv2d_274",)]
    assert reads(graph, "avg_pool") == [
        ("conv2d_273", "conv2d_275", "conv2d_276", "conv2d_279", "conv2d_280", "conv2d_281"),
    ]
    assert [node.name for node in inception_v3(first=0).operations if not node.identity][:3] == ["conv2d_0", "conv2d_1", "conv2d_2"]


@pytest.mark.parametrize(
    ("name", "layers", "hidden", "heads"),
    [("tiny", 4, 256, 4), ("small", 4, 512, 8), ("medium", 8, 512, 8), ("base", 12, 768, 12), ("large", 24, 1024, 16)],
)
def test_sizes_of_bert_are_those_of_sosas_benchmarks(name: str, layers: int, hidden: int, heads: int) -> None:
    """`precompiler/benchmarks.py` there: a head for each 64 channels, four times as many between the dense layers."""
    sizes = {row[0]: row[1:] for row in rows(load_graph(f"bert_{name}_10"))}
    last = f"Encoder-{layers}-"
    assert sizes[f"{last}FeedForward1"] == (10, hidden, 4 * hidden)
    assert sizes[f"{last}FeedForward2"] == (10, 4 * hidden, hidden)
    assert sizes[f"{last}MultiHeadSelfAttention_O"] == (10, hidden, hidden)
    assert sizes[f"{last}MultiHeadSelfAttention_QK{heads - 1}"] == (10, 64, 10)
    assert len(sizes) == layers * (6 + 2 * heads) + 3


def test_bert_connections() -> None:
    graph = load_graph("bert_tiny_100")
    attention = "Encoder-2-MultiHeadSelfAttention_"
    assert [reads(graph, attention + letter) for letter in "KQV"] == [[("Encoder-1-FeedForward2",)]] * 3
    scores = node(graph, f"{attention}QK3")
    assert scores.operands[0].sources == (f"{attention}Q",)
    assert scores.operands[0].channels == (192, 64)
    assert scores.after == (f"{attention}K",)
    values = node(graph, f"{attention}PV3")
    assert (values.operands[0].sources, values.operands[0].channels) == ((f"{attention}QK3",), None)
    assert values.after == (f"{attention}V",)
    assert reads(graph, f"{attention}O") == [tuple(f"{attention}PV{head}" for head in range(4))]
    # The sentence classifier sees the first token only.
    assert reads(graph, "MLM-Dense") == reads(graph, "NSP-Dense") == [("Encoder-4-FeedForward2",)]
    assert (graph.shape("NSP-Dense"), graph.shape("NSP")) == ((1, 1, 1, 256), (1, 1, 1, 2))
    # Nothing of the sequence's length is assumed.
    assert load_graph("bert_large_1").shape("Encoder-24-FeedForward2") == (1, 1, 1, 1024)
    with pytest.raises(WorkloadError, match=r"^bert: 10 channels cannot be shared by 4 heads$"):
        bert(1, 10, 4, 40, 8)


def slice_of(channels: tuple[int, int], *sources: str, k: int = 4) -> Graph:
    node = Linear("n", (Operand(sources, gemm(3, k, 2), channels=channels),))
    return verify(Graph("g", {"a": (1, 1, 3, 8), "b": (1, 1, 3, 8)}, (node,)))


def test_slice_of_a_source() -> None:
    assert slice_of((4, 4), "a").shape("n") == (1, 1, 3, 2)
    assert slice_of((6, 4), "a", "b").shape("n") == (1, 1, 3, 2)
    for channels, sources, sentence in (
        ((5, 4), ("a",), "g: n reads channels 5 to 8 of a, which has 8"),
        ((0, 3), ("a",), "g: n expects 4 channels, its sources have 3"),
        ((13, 4), ("a", "b"), "g: n reads channels 13 to 16 of a and b, which have 16"),
        ((-1, 4), ("a",), "gemm:3x4x2: channels must be (first, count) with at least one, got (-1, 4)"),
        ((0, 0), ("a",), "gemm:3x4x2: channels must be (first, count) with at least one, got (0, 0)"),
    ):
        with pytest.raises(WorkloadError, match=f"^{re.escape(sentence)}$"):
            slice_of(channels, *sources)


@pytest.mark.parametrize(("up", "macs"), [("transposed", 48_096_083_968), ("nearest", 54_538_534_912)])
def test_unet(up: str, macs: int) -> None:
    """23 convolutions, and 4 poolings, of the channels in the figure of the paper."""
    graph = verify(load_graph(f"unet_256,up={up}"))
    assert (len(graph.operations), graph.macs) == (27, macs)
    widths = [(1, 64), (64, 128), (128, 256), (256, 512), (512, 1024), (1024, 512), (512, 256), (256, 128), (128, 64)]
    stages = sum(9 * (before + after) * after for before, after in widths)
    assert graph.weights == stages + sum(4 * before * after for before, after in widths[5:]) + 64 * 2
    assert graph.shape("classes") == (1, 256, 256, 2)
    (first,) = graph.operations[[operation.name for operation in graph.operations].index("up4_conv1")].operands
    assert (first.sources, first.layer.channels, first.layer.height) == (("down4_conv2", "up4_upconv"), 1024, 32)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("unet_100", "unet_100: 4 times halved, images must have a multiple of 16 pixels, got 100"),
        ("unet_32,up=linear", "unet_32,up=linear: up must be transposed or nearest, got 'linear'"),
        ("unet_32,up=nearest,up=nearest", "unet_32,up=nearest,up=nearest: up is given more than once"),
        ("unet_32,width=0", "unet_32,width=0: width must be at least 1, got 0"),
        ("unet_32,size=3", "unet_32,size=3: unknown option 'size'; allowed: width, depth, channels, classes, batch, up"),
    ],
)
def test_unets_that_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        load_graph(text)
    assert str(caught.value) == sentence
