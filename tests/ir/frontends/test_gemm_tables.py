"""podweave.networks: workloads by name and by file, and what is said of those that cannot be read."""

import re
from pathlib import Path

import pytest

from podweave.ir.frontends.gemm_tables import load_workload, network_names, read_layers
from podweave.ir.layers import Layer, WorkloadError, gemm, parse_workload


def dimensions(layer: Layer) -> tuple[str, int, int, int]:
    return layer.name, layer.positions, layer.reduction, layer.outputs


def test_names() -> None:
    assert network_names() == [
        "bert_base_100",
        "bert_medium_100",
        "bert_tiny_100",
        "densenet121_299",
        "inception_299",
        "resnet50_224",
        "resnet50_224_scalesim",
        "resnet50_299",
    ]


def test_one_layer_is_what_its_text_says() -> None:
    assert load_workload("gemm:5x6x7") == [gemm(5, 6, 7)]
    text = "conv:8x8x4x4,kernel=3x3,padding=same"
    assert load_workload(text) == [parse_workload(text)]


def test_resnet50_by_hand() -> None:
    layers = load_workload("resnet50_224")
    named = {layer.name: dimensions(layer)[1:] for layer in layers}
    # 7 x 7 over 3 channels, stride 2: 112 x 112 outputs of 147 products.
    assert named["conv1_conv"] == (112 * 112, 7 * 7 * 3, 64)
    assert named["conv2_block1_2_conv"] == (56 * 56, 3 * 3 * 64, 64)
    assert named["conv5_block3_3_conv"] == (7 * 7, 512, 2048)
    assert named["predictions"] == (1, 2048, 1000)
    assert len(named) == len(layers) == 54
    # 16 blocks of three, four of them with a shortcut, the first layer and the classifier.
    assert sum("_0_" in name for name in named) == 4
    # 3 x 3 kernels in every second layer of a block.
    assert all(k % 9 == 0 for name, (_, k, _) in named.items() if "_2_conv" in name)


def test_resnet50_as_scalesim_sees_it() -> None:
    layers = load_workload("resnet50_224_scalesim")
    assert len(layers) == 54
    # Nothing is padded there: 224 pixels hold ceil((224 - 7 + 2) / 2) = 110 windows of 7 at stride 2.
    assert dimensions(layers[0]) == ("Conv1", 110 * 110, 147, 64)


def test_layer_of_a_network() -> None:
    (layer,) = load_workload("resnet50_224/conv2_block1_2_conv")
    assert dimensions(layer) == ("conv2_block1_2_conv", 3136, 576, 64)


def test_file_of_layers(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text('# two layers\nlayer,M,K,N\n\nfirst,5,6,7\n"second, quoted",1,2,3\n# end\n')
    expected = [gemm(5, 6, 7, name="first"), gemm(1, 2, 3, name="second, quoted")]
    assert read_layers(path) == expected
    assert load_workload(str(path)) == expected


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the first row must be layer,M,K,N, got ''"),
        (b"# only a comment\n", "the first row must be layer,M,K,N, got ''"),
        (b"layer,M,N,K\nfc,1,2,3\n", "the first row must be layer,M,K,N, got 'layer,M,N,K'"),
        (b"layer,M,K,N\n", "no layers"),
        (b"layer,M,K,N\nfc,1,2\n", "layer 1 must be a name and three whole numbers, got 'fc,1,2'"),
        (b"layer,M,K,N\na,1,2,3\nb,1,2,3,4\n", "layer 2 must be a name and three whole numbers, got 'b,1,2,3,4'"),
        (b"layer,M,K,N\nfc,1,-2,3\n", "layer 1 must be a name and three whole numbers, got 'fc,1,-2,3'"),
        (b"layer,M,K,N\nfc,1,2.0,3\n", "layer 1 must be a name and three whole numbers, got 'fc,1,2.0,3'"),
        (b"layer,M,K,N\nfc,1,,3\n", "layer 1 must be a name and three whole numbers, got 'fc,1,,3'"),
        (b"\xff\xfe\n", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_file_that_cannot_be_read(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(WorkloadError, match=f"^{re.escape(f'{path}: {sentence}')}$"):
        load_workload(str(path))


def test_size_of_zero_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "zero.csv"
    path.write_text("layer,M,K,N\nfc,1,0,3\n")
    with pytest.raises(WorkloadError, match=r"^fc: K must be at least 1, got 0$"):
        load_workload(str(path))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("missing.csv", "workload file 'missing.csv' does not exist"),
        ("resnet50_224/conv9", "network resnet50_224 has no layer 'conv9'"),
        ("resnet51", "workload 'resnet51' is none of gemm:MxKxN, conv:"),
        ("../workloads/resnet50_224", "workload '../workloads/resnet50_224' is none of gemm:MxKxN, conv:"),
        ("", "workload '' is none of gemm:MxKxN, conv:"),
        ("gemm:5x6", "workload 'gemm:5x6' is not of the form gemm:MxKxN or conv:"),
    ],
)
def test_unknown_workload_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(WorkloadError, match=f"^{re.escape(sentence)}"):
        load_workload(text)
