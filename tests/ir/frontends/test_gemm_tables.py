"""ir.frontends.gemm_tables: workloads by name and by file, and what is said of those that cannot be read."""

import re
from pathlib import Path

import pytest

from podweave.ir.frontends import load_workload
from podweave.ir.frontends.gemm_tables import network_names, read_layers
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


HEADER = "layer,M,K,N\n"


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbflayer,M,K,N\nfirst,5,6,7\nsecond,1,2,3\n",
        b"layer,M,K,N\r\nfirst,5,6,7\r\n\r\nsecond,1,2,3\r\n",
        b"layer,M,K,N\rfirst,5,6,7\rsecond,1,2,3",
        b"layer, M, K, N\nfirst, 5, 6 ,7\n  second  ,1,2,3\n",
        b"layer,M,K,N,\nfirst,5,6,7,\nsecond,1,2,3,,,\n,,,\n",
        b"layer;M;K;N\nfirst;5;6;7\nsecond;1;2;3\n",
        b"layer,\tM,\tK,\tN\nfirst,\t5,\t6,\t7\nsecond,1,2,\t3\t\n",
        b"layer\tM\tK\tN\nfirst\t5\t6\t7\t\nsecond\t1\t2\t3\n",
        b'"layer","M","K","N"\n"first","5","6","7"\n"second", "1", "2", "3"\n',
        b"  # comment\n\n   \nLayer Name,m,k,n\n# another\nfirst,005,6,7\nsecond,1,2,3\n#",
        b"Layer,M,N,K\nfirst,5,7,6\nsecond,1,3,2\n",
        b"name,K,N,M\nfirst,6,7,5\nsecond,2,3,1\n",
    ],
)
def test_what_is_harmless_is_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    assert read_layers(path) == [gemm(5, 6, 7, name="first"), gemm(1, 2, 3, name="second")]


def test_names_that_occur_again_get_a_number(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(HEADER + 'a,1,2,3\na,4,5,6\n"b, c\u2028d",7,8,9\na#2,1,1,1\n', encoding="utf-8")
    assert [layer.name for layer in read_layers(path)] == ["a", "a#2", "b, c\u2028d", "a#2#2"]
    assert [dimensions(layer) for layer in load_workload(f"{path}/a#2")] == [("a#2", 4, 5, 6)]


SIZE = "must be a whole number from 1 to 1,048,576, got"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is empty; its first row must be layer,M,K,N or the header of a SCALE-Sim list"),
        (b"# only a comment\n", "the file is empty; its first row must be layer,M,K,N or the header of a SCALE-Sim list"),
        (b"fc,1,2,3\n", "line 1: the first row must be layer,M,K,N (M, K and N in any order) or the header of a SCALE-Sim list"),
        (b"\n\nlayer,M,K\n", "line 3: the first row must be layer,M,K,N (M, K and N in any order) or the header of"),
        (b"layer|M|K|N\n", "line 1: the first row must be layer,M,K,N"),
        (b"layer,M,K,N,K\n", "line 1: column 'k' occurs twice"),
        (b"layer,M,K,N,groups\n", "line 1: column 'groups' is not known; known are m, k, n, sparsity, batch size; notes stand"),
        (
            b"layer,M;K,N\n",
            "line 1: cells stand between commas, semicolons or tabs, but there are commas and semicolons",
        ),
        (b"layer,M,K,N\n", "no layers"),
        (b"layer,M,K,N\nfc,1,2\n", f"line 2: N {SIZE} ''"),
        (b"layer,M,K,N\na,1,2,3\n\nb,1,2,3,4\n", "line 4: 5 cells, but the header has 4 columns: 'b,1,2,3,4'"),
        (b"layer,M,K,N\n,1,2,3\n", "line 2: the layer has no name: ',1,2,3'"),
        (b"layer,M,K,N\nfc,1,-2,3\n", f"line 2: K {SIZE} '-2'"),
        (b"layer,M,K,N\nfc,1,2.0,3\n", f"line 2: K {SIZE} '2.0'"),
        (b"layer,M,K,N\nfc,1,,3\n", f"line 2: K {SIZE} ''"),
        ("layer,M,K,N\r\n# é\r\nfc,1,3²,3\r\n".encode(), f"line 3: K {SIZE} '3²'"),
        ("layer,M,K,N\nfc,1,٣,3\n".encode(), f"line 2: K {SIZE} '٣'"),
        (b"layer,M,K,N\nfc,0,2,3\n", f"line 2: M {SIZE} '0'"),
        (b"layer,M,K,N\nfc,1,2,1048577\n", f"line 2: N {SIZE} '1048577'"),
        (b"layer,M,K,N\nfc,1,2," + b"9" * 5000, f"line 2: N {SIZE} '9999"),
        (b"layer,M,K,N\nfc,1048576,1,1048576\n", "line 2: fc: the output has 1,099,511,627,776 numbers, more than 4,294,967,296"),
        (b'layer,M,K,N\n"fc,1,2,3\n', "line 2: unexpected end of data"),
        (b'layer,M,K,N\n"fc"x,1,2,3\n', "line 2: ',' expected after '\"'"),
        (b"layer,M,K,N\nfc\0,1,2\n", "line 2: N must be"),
        (b"layer,M,K,N\nf\xe9,1,2,3\n", "line 2: not UTF-8 (byte 0xe9)"),
        ("layer,M,K,N\n".encode("utf-16"), "line 1: not UTF-8 (byte 0xff)"),
    ],
)
def test_file_that_cannot_be_read(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(WorkloadError, match=f"^{re.escape(f'{path}: {sentence}')}"):
        load_workload(str(path))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(WorkloadError, match=r"folder\.csv' does not exist$"):
        load_workload(str(tmp_path / "folder.csv"))
