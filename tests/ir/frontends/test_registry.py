"""ir.frontends: workloads by name, one layer of them, and what is said of those that do not exist."""

import re
from pathlib import Path

import pytest

from podweave.ir.frontends import feed_forward, load_graph, load_layers, load_workload, workload_forms
from podweave.ir.frontends.gemm_tables import network_names
from podweave.ir.frontends.registry import LayerList, layers_of
from podweave.ir.graph import Graph
from podweave.ir.layers import WorkloadError, parse_workload
from podweave.ir.operations import Linear, Operand, Window
from tests.ir.frontends.graph_rows import expected, reads, rows


def test_graphs_by_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("layer,M,K,N\nfirst,64,5,8\nsecond,64,72,3\n")
    graph = load_graph(str(path))
    assert (graph.name, reads(graph, "second")) == ("mine", [("first",)])
    assert rows(load_graph("gemm:5x6x7")) == [("gemm:5x6x7", 5, 6, 7)]
    assert rows(load_graph("resnet50_224/predictions")) == [("predictions", 1, 2048, 1000)]
    scalesim = load_graph("resnet50_224_scalesim")
    assert rows(scalesim) == expected(load_workload("resnet50_224_scalesim"))
    # Any size of a topology.
    assert load_graph("resnet50_256").shape("conv5_block3_3_conv") == (1, 8, 8, 2048)
    assert load_graph("bert_base_10").shape("MLM-Dense") == (1, 1, 10, 768)


@pytest.mark.parametrize(("name", "tokens"), [("ffn_24_40", 1), ("ffn_24_40_1", 1), ("ffn_24_40_7", 7)])
def test_feed_forward(name: str, tokens: int) -> None:
    graph = load_graph(name)
    assert graph == feed_forward(24, 40, tokens)
    assert (graph.name, graph.inputs) == (f"ffn_24_40_{tokens}", {"input": (1, 1, tokens, 24)})
    assert rows(graph) == [("up", tokens, 24, 40), ("down", tokens, 40, 24)]
    assert (reads(graph, "up"), reads(graph, "down")) == ([("input",)], [("up",)])
    assert graph.shape("down") == graph.inputs["input"]
    assert graph.macs == 2 * 24 * 40 * tokens


TOPOLOGIES = [
    form
    for form in workload_forms()
    if form.startswith(("resnet", "densenet", "inception", "bert", "ffn")) and ",rows=N" not in form
]


@pytest.mark.parametrize("form", [form for form in TOPOLOGIES if form not in network_names()])
def test_every_form_that_is_offered_is_a_network(form: str) -> None:
    sizes = {"HIDDEN": "6", "INTERMEDIATE": "10", "TOKENS": "5", "SIZE": "299"}
    whole = re.sub("|".join(sizes), lambda match: sizes[match[0]], form)
    short, sized = re.sub(r"\[.*\]", "", whole), re.sub(r"[][]", "", whole)
    graph = load_graph(sized)
    assert graph.name == sized
    if form.startswith("bert"):
        assert graph.inputs["input"][2] == 5
    if form.startswith(("resnet", "densenet", "inception")):
        # Without a size, that for which the network was published.
        usual = 299 if form.startswith("inception") else 224
        assert load_graph(short) == load_graph(f"{short}_{usual}")
        assert graph.inputs["input"][1:3] == (299, 299)
        assert load_graph(short).inputs["input"][1:3] == (usual, usual)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        *(
            (name, f"workload {name!r} is none of gemm:MxKxN, conv:")
            for name in (
                *(
                    "resnet51_224",
                    "densenet50_224",
                    "bert_huge_100",
                    "bert_50_100",
                    "inception3_299",
                    "resnet",
                    "bert_huge",
                    "bert",
                ),
                *(
                    "encoder",
                    "encoder_8_",
                    "bert_tiny,rows",
                    "bert_100,rows=2",
                    "ffn_64",
                    "ffn_1_2_3_4",
                    "",
                    "/",
                    "resnet50_²",
                    "../workloads/resnet50_224",
                    "resnet51/conv1",
                ),
            )
        ),
        ("missing.csv", "workload file 'missing.csv' does not exist"),
        ("missing.csv/layer", "workload file 'missing.csv' does not exist"),
        ("resnet50_224/conv9", "resnet50_224 has no layer 'conv9'"),
        ("resnet50_224_scalesim/conv9", "resnet50_224_scalesim has no layer 'conv9'"),
        ("gemm:5x6x7/fc", "gemm:5x6x7 has no layer 'fc'"),
        ("gemm:5x6", "workload 'gemm:5x6' is not of the form gemm:MxKxN or conv:"),
        ("resnet50_0", "conv1_conv: height must be at least 1, got 0"),
        ("inception_20", "pool2: the window spans 3 in height, but there are 1 positions"),
        ("bert_tiny_0", "Encoder-1-MultiHeadSelfAttention_K: M must be at least 1, got 0"),
        ("ffn_0_8", "ffn_0_8_1: hidden must be at least 1, got 0"),
        ("ffn_8_0_4", "ffn_8_0_4: intermediate must be at least 1, got 0"),
        ("ffn_8_8_0", "ffn_8_8_0: tokens must be at least 1, got 0"),
        ("ffn_1048577_8", "ffn_1048577_8_1: hidden must be at most 1,048,576, got 1048577"),
        ("ffn_8_99999999999999999999", "ffn_8_99999999999999999999_1: intermediate must be at most 1,048,576, got "),
        ("ffn_1048576_1048576", "up: the weights have 1,099,511,627,776 numbers, more than 4,294,967,296"),
        ("bert_tiny_1048577", "Encoder-1-MultiHeadSelfAttention_K: M must be at most 1,048,576, got 1048577"),
        ("bert_tiny_1048576", "Encoder-1-MultiHeadSelfAttention_QK0: the output has 1,099,511,627,776 numbers, more than"),
        ("resnet50_99999999999", "conv1_conv: height must be at most 1,048,576, got 99999999999"),
        ("densenet121_1048576", "conv1/conv: the padded input has"),
        ("inception_1048576", "conv2d_188: the padded input has"),
        ("resnet50_" + "9" * 5000, "conv1_conv: height must be at most 1,048,576, got 1000"),
        *(
            (f"norm_64{wrong}", f"norm_64{wrong} is not of the form norm_HIDDEN[,rows=N], with whole numbers")
            for wrong in (",", ",rows", ",rows=", ",rows=-1", ",rows=1.5", "x", "_")
        ),
        ("llama_8_2_1", "llama_8_2_1: llama takes sizes as in llama_HIDDEN_HEADS_KVHEADS_INTERMEDIATE[_LAYERS][,rows=N]"),
        ("norm_8,row=2", "norm_8,row=2: unknown option 'row'; allowed: rows"),
        ("norm_8,rows=2,rows=2", "norm_8,rows=2,rows=2: rows is given more than once"),
        ("norm_" + "9" * 5000, f"norm_{'9' * 195}...: hidden must be at most 1,048,576, got 1000"),
        ("attention_2_1_4,rows=5,context=4", "attention_2_1_4,rows=5,context=4: 5 rows are more than a context of 4"),
        ("llama_16_2_1_24,rows=5,context=4", "llama_16_2_1_24,rows=5,context=4: 5 rows are more than a context of 4"),
        ("attention_6_4_8", "attention_6_4_8: kv_heads (4) must divide heads (6)"),
        ("vgg16_31", "vgg16_31: images of VGG have at least 32 pixels a side, got 31"),
        ("attention_2_1_4/attention", "attention_2_1_4 has operations on rows, "),
    ],
)
def test_graphs_that_do_not_exist(name: str, sentence: str) -> None:
    with pytest.raises(WorkloadError, match=f"^{re.escape(sentence)}"):
        load_graph(name)
    with pytest.raises(WorkloadError) as refused:
        load_layers(name)
    assert len(str(refused.value)) < 1500


def test_layers_of_a_graph_alone() -> None:
    found = load_layers("resnet50")
    assert expected(found.layers) == rows(load_graph("resnet50"))
    # A list of the same size has no convolutions, and leaves out nothing.
    assert expected(load_layers("resnet50_224").layers) == expected(found.layers)
    assert load_layers("resnet50_224").layers[0].kernel == (1, 1) != found.layers[0].kernel
    assert found.left_out == "2 poolings and 16 residual additions"
    assert load_layers("resnet50_224").left_out == load_layers("gemm:5x6x7").left_out == load_layers("bert_tiny_5").left_out == ""
    one = load_layers("resnet50/conv2_block1_3_conv")
    assert ([layer.name for layer in one.layers], one.left_out) == (["conv2_block1_3_conv"], "1 residual addition")
    with pytest.raises(
        WorkloadError, match=r"^avg_pool of resnet50_224 is a pooling, and has no weights: it is no layer by itself$"
    ):
        load_layers("resnet50/avg_pool")
    # A layer of one weight per channel is no residual, if it is the first.
    scale = parse_workload("conv:4x4x8x8,kernel=1,groups=depthwise")
    both = Graph("g", {"x": (1, 4, 4, 8)}, (Linear("n", (Operand(("x",), scale), Operand(("x",), scale))),))
    assert layers_of(both) == LayerList([scale], "1 residual addition")
    for node_ in load_graph("inception").operations:
        if not node_.identity:
            assert load_layers(f"inception/{node_.name}").layers == [node_.operands[0].layer]


def test_a_layer_of_a_graph() -> None:
    graph = load_graph("resnet50/conv2_block1_3_conv")
    assert graph.inputs == {"conv2_block1_2_conv": (1, 56, 56, 64), "conv2_block1_0_conv": (1, 56, 56, 256)}
    assert [node.name for node in graph.operations] == [graph.name] == ["conv2_block1_3_conv"]
    assert load_graph("resnet50/avg_pool").operations[0].window == Window("sum", (7, 7), (1, 1))


def test_a_layer_of_a_file(tmp_path: Path) -> None:
    # Folders and layers may be named like anything.
    folder = tmp_path / "digits" / "resnet50"
    folder.mkdir(parents=True)
    path = folder / "mine.CSV"
    path.write_text("layer,M,K,N\nfirst,64,5,8\nblock/conv,64,72,3\nother.csv,1,2,3\n")
    for name, row in (("first", (64, 5, 8)), ("block/conv", (64, 72, 3)), ("other.csv", (1, 2, 3))):
        assert expected(load_workload(f"{path}/{name}")) == rows(load_graph(f"{path}/{name}")) == [(name, *row)]
    # Alone, it has the shape that it has in the file.
    assert load_graph(f"{path}/block/conv").operations[0].operands[0].layer.kernel == (3, 3)
    for load in (load_graph, load_workload):
        with pytest.raises(WorkloadError, match=f"^{re.escape(str(path))} has no layer 'third'$"):
            load(f"{path}/third")


def test_errors_and_help_name_every_form_of_the_registry() -> None:
    forms = workload_forms()
    assert {"gemm:MxKxN", "FILE.csv", "resnet50[_SIZE]", "bert_small_TOKENS", *network_names()} <= {*forms}
    with pytest.raises(WorkloadError) as refused:
        load_graph("nothing")
    assert all(form in str(refused.value) for form in forms)
