"""ir.frontends.scalesim: lists as SCALE-Sim's users have them, against counts of its own formulas."""

from __future__ import annotations

import re
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podweave.ir.frontends import load_graph, load_workload
from podweave.ir.frontends.gemm_tables import read_layers
from podweave.ir.layers import Layer, WorkloadError, gemm

HEADER = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "topology.csv"
    path.write_text(text, encoding="utf-8")
    return path


def read(tmp_path: Path, text: str) -> list[Layer]:
    return read_layers(written(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "Layer,M,N,K\nQKT,1024,1024,64\nLinear1,1024,4800,1600\n",
        "Layer, M, N, K,\nQKT, 1024, 1024, 64,\n\nLinear1, 1024, 4800, 1600,\n",
        "Layer Name, M, N, K, Sparsity,\nQKT, 1024, 1024, 64, 2:4,\nLinear1, 1024, 4800, 1600, 1,\n",
        "L,M,N,K,Batch,\nQKT,1024,1024,64,1,\nLinear1,1024,4800,1600,,\n",
    ],
)
def test_gemms_have_n_before_k(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == [gemm(1024, 64, 1024, name="QKT"), gemm(1024, 1600, 4800, name="Linear1")]


CONV = Layer(name="Conv1", height=224, width=220, channels=3, outputs=96, kernel=(11, 9), stride=(4, 4), padding=((0, 3), (0, 1)))
FC = Layer(name="FC6", height=1, width=1, channels=2048, outputs=1000)


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}Conv1,224,220,11,9,3,96,4,\nFC6,1,1,1,1,2048,1000,1,\n",
        f"{HEADER}\n,,,,,,,,\nConv1     ,224     ,220 ,11  , 9,  3 ,96,4 ,\nFC6,1,1,1,1,2048,1000,1",
        # As SCALE-Sim's Resnet50, resnet_fwd, UNet_maestro, llama3b, sparsity/conv and Resnet18; then two columns of strides.
        f"{HEADER.strip()},,Eh,Ew,e2\n,,,,,,,,,,,,\nConv1,224,220,11,9,3,96,4,,,54,54,2916\nFC6,1,1,1,1,2048,1000,1,,,,,\n",
        "Layer name,Ifmap height,ifmap width,filter height,filter width,channels,num filters,strides,\n"
        "Conv1,224,220,11,9,3,96,4,\nFC6,1,1,1,1,2048,1000,1,\n",
        f"{HEADER.replace(',', chr(9))}Conv1\t224\t220\t11\t9\t3\t96\t4\t\nFC6\t1\t1\t1\t1\t2048\t1000\t1\t\n",
        f"{HEADER.strip()} Batch Size,\nConv1,224,220,11,9,3,96,4,1,\nFC6,1,1,1,1,2048,1000,1,1,\n",
        f"{HEADER.strip()} Sparsity,\nConv1,224,220,11,9,3,96,4,1:4,\nFC6,1,1,1,1,2048,1000,1,4:4,\n",
        f"{HEADER}Conv1,224,220,11,9,3,96,4,2:4,\nFC6,1,1,1,1,2048,1000,1,#fc\n",
        f"{HEADER.strip()}, Target\nConv1,224,220,11,9,3,96,4, NPU\nFC6,1,1,1,1,2048,1000,1, GPU\n",
        "Layer name,IFMAP height,IFMAP width,Filter height,Filter width,Channels,Num filter,Stride height,Stride width,\n"
        "Conv1,224,220,11,9,3,96,4,4,\nFC6,1,1,1,1,2048,1000,1,1,\n",
        f"{HEADER}Conv1,224,220,11,9,3,96,4,4\nFC6,1,1,1,1,2048,1000,1,1,\n",
    ],
)
def test_convolutions(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == [CONV, FC]


def test_two_strides_and_a_batch(tmp_path: Path) -> None:
    header = HEADER.replace("Strides,\n", "Stride Height, Stride Width, Batch Size,\n")
    (layer,) = read(tmp_path, f"{header}a,9,9,3,3,2,4,2,1,5,\n")
    assert (layer.stride, layer.batch, layer.output_size) == ((2, 1), 5, (4, 7))


def pairs(most: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(1, most), st.integers(1, most))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    st.tuples(*(st.integers(1, 30),) * 2),
    st.tuples(*(st.integers(1, 9),) * 2),
    st.integers(1, 5),
    st.integers(1, 7),
    st.integers(1, 6),
)
def test_sizes_are_those_of_scalesim(
    tmp_path_factory: pytest.TempPathFactory,
    image: tuple[int, int],
    kernel: tuple[int, int],
    channels: int,
    filters: int,
    stride: int,
) -> None:
    """`topologies.topo_calc_hyperparams` there."""
    row = f"a,{image[0]},{image[1]},{kernel[0]},{kernel[1]},{channels},{filters},{stride},\n"
    path = written(tmp_path_factory.mktemp("topology"), HEADER + row)
    if kernel[0] > image[0] or kernel[1] > image[1]:
        with pytest.raises(WorkloadError, match=r"line 2: the filter \(\d+x\d+\) is larger than the IFMAP"):
            read_layers(path)
        return
    (layer,) = read_layers(path)
    size = tuple(ceil((i - k + stride) / stride) for i, k in zip(image, kernel, strict=True))
    assert layer.output_size == size
    assert layer.macs == size[0] * size[1] * kernel[0] * kernel[1] * channels * filters
    assert layer.input_shape == (1, *image, channels)


def test_the_list_that_comes_with_podweave_is_what_scalesims_would_be(tmp_path: Path) -> None:
    rows = ["Conv1,224,224,7,7,3,64,2,,,110,110,12100", "CB2a_1,56,56,1,1,64,64,1,,,,,", "CB2a_2,56,56,3,3,64,64,1,,,,,"]
    ours = load_workload("resnet50_224_scalesim")[:3]
    layers = read(tmp_path, "\n".join([f"{HEADER.strip()},,Eh,Ew,e2", *rows]))
    for layer, known in zip(layers, ours, strict=True):
        assert (layer.name, layer.positions, layer.reduction, layer.outputs) == (
            *(known.name, known.positions, known.reduction),
            known.outputs,
        )


@pytest.mark.parametrize(
    ("row", "groups", "outputs"),
    [
        # SCALE-Sim makes a layer of one channel out of each of the 32.
        ("DP1,112,112,3,3,32,1,1", 32, 32),
        ("Conv2_DP,112,112,3,3,32,2,1", 32, 64),
        ("Conv2_dw,112,112,3,3,32,1,1", 32, 32),
        ("DepthwiseConv2D_1,48,48,3,3,8,1,1", 8, 8),
        ("depth_wise,48,48,3,3,8,1,1", 8, 8),
        # Of one channel of a depthwise layer, as mobilnet_paper.csv has them.
        ("Conv4_dw,112,112,3,3,1,1,2,#dw", 1, 1),
        # Several filters, or no mark: as it is written.
        ("Conv2_dw,112,112,3,3,32,64,1", 1, 64),
        ("Conv2,112,112,3,3,32,1,1", 1, 1),
        ("Hardware,112,112,3,3,32,1,1", 1, 1),
    ],
)
def test_depthwise(tmp_path: Path, row: str, groups: int, outputs: int) -> None:
    (layer,) = read(tmp_path, f"{HEADER}{row},\n")
    assert (layer.groups, layer.outputs) == (groups, outputs)
    assert layer.reduction == 9 * layer.channels // groups


@pytest.mark.parametrize(
    ("header", "row", "sentence"),
    [
        (HEADER, "a,8,8,3,3,4,,1,", "line 2: num filter must be a whole number from 1 to 1,048,576, got ''"),
        (HEADER, "a,8,8,3,3,4,8", "line 2: strides must be a whole number from 1 to 1,048,576, got ''"),
        (HEADER, "a,8,8,3,3,4,8,2²,", "line 2: strides must be a whole number from 1 to 1,048,576, got '2²'"),
        (HEADER, "a,0,8,3,3,4,8,1,", "line 2: ifmap height must be a whole number from 1 to 1,048,576, got '0'"),
        (HEADER, "a,8,8,9,3,4,8,1,", "line 2: the filter (9x3) is larger than the IFMAP (8x8)"),
        (HEADER, "a,8,8,3,3,4,8,2,1,", "line 2: '1' stands behind Strides without a name; name both: Stride height, Stride width"),
        (HEADER, "a,1048576,1048576,1,1,4,8,1,", "line 2: a: the padded input has"),
        (
            HEADER.replace("Strides", "Strides, Dilation"),
            "a,8,8,3,3,4,8,1,2,",
            "line 1: column 'dilation' is not known; known are ifmap",
        ),
        (f"{HEADER.strip()}Strides,\n", "a,8,8,3,3,4,8,1,2,", "line 1: column 'strides' occurs twice"),
        (
            HEADER.replace("Strides", "Sparsity, Strides"),
            "a,8,8,3,3,4,8,4:2,1",
            "line 2: sparsity must be N:M with N up to M, got '4:2'",
        ),
        (
            HEADER.replace("Strides", "Sparsity, Strides"),
            "a,8,8,3,3,4,8,half,1",
            "line 2: sparsity must be N:M with N up to M, got 'half'",
        ),
        (HEADER.replace("Channels, ", ""), "a,8,8,3,3,8,1", "line 1: the first row must be layer,M,K,N"),
        ("Layer,M,N,K,Batch,\n", "a,1,2,3,4,", "line 2: a GEMM has no batch, got '4': list it as often, or multiply M if"),
        ("Layer,M,N,K,Sparsity,\n", "a,1,2,3,0:4,", "line 2: sparsity must be N:M with N up to M, got '0:4'"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path: Path, header: str, row: str, sentence: str) -> None:
    path = written(tmp_path, f"{header}{row}\n")
    with pytest.raises(WorkloadError, match=f"^{re.escape(f'{path}: {sentence}')}"):
        load_workload(str(path))


def test_on_a_chip_a_list_is_a_chain_of_its_layers(tmp_path: Path) -> None:
    path = written(tmp_path, f"{HEADER}a,8,8,3,3,4,8,2,\nb_dw,8,8,3,3,8,1,1,\nc,3,3,1,1,8,4,1,\n")
    graph = load_graph(str(path))
    assert [node.operands[0].layer.macs for node in graph.operations] == [16 * 9 * 4 * 8, 36 * 9 * 8, 9 * 8 * 4]
    assert load_graph(f"{path}/b_dw").operations[0].operands[0].layer.groups == 8
