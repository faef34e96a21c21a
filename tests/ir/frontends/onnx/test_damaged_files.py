"""ir.frontends.onnx: files that are no good, beside those of test_read: names, sizes, scales, what is left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from podweave.ir.constants import Constants
from podweave.ir.frontends.onnx import files, read_network
from podweave.ir.layers import WorkloadError
from tests.ir.frontends.onnx.test_read import held, refused_conv

Change = Callable[[Any], Any]
Made = Callable[[Path], Path]


def changed(change: Change) -> Made:
    """A good file, and what is done to its graph."""

    def made(folder: Path) -> Path:
        file = refused_conv(lambda graph: None)(folder)
        model = onnx.load(file)
        change(model.graph)
        file.write_bytes(model.SerializeToString())
        return file

    return made


def second(kind: str) -> Made:
    """The first of a kind once more."""
    return changed(lambda graph: getattr(graph, kind).add().CopyFrom(getattr(graph, kind)[0]))


def dimension(graph: Any) -> Any:
    return graph.input[0].type.tensor_type.shape.dim[0]


def test_what_is_changed_is_good(tmp_path: Path) -> None:
    assert read_network(changed(lambda graph: None)(tmp_path)).graph.operations


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (second("initializer"), r"^file\.onnx has 2 initialisers of the name scale: names must differ$"),
        (second("input"), r"^file\.onnx has 2 inputs of the name x: names must differ$"),
        (second("output"), r"^file\.onnx has 2 outputs of the name t5: names must differ$"),
        (second("node"), r"^file\.onnx has 2 tensors of the name t0: names must differ$"),
        (changed(lambda graph: graph.node[0].output.__setitem__(0, "x")), r"^file\.onnx has 2 tensors of the name x: names must"),
        (changed(lambda graph: graph.node[0].output.__setitem__(0, "w")), r"^file\.onnx has 2 tensors of the name w: names must"),
        (changed(lambda graph: graph.ClearField("node")), r"^file\.onnx is no ONNX file, or only a part of one: it has no nodes$"),
        (changed(lambda graph: graph.ClearField("output")), r"^file\.onnx has no outputs$"),
        (changed(lambda graph: graph.input[0].type.tensor_type.ClearField("shape")), r"input x has no shape: export it with one$"),
        (changed(lambda graph: graph.input[0].type.ClearField("tensor_type")), r"^file\.onnx: input x is no tensor$"),
        (
            changed(lambda graph: dimension(graph).ClearField("dim_value")),
            r"^file\.onnx: input x leaves its dimension 0 open: --size x\.0=N fixes it$",
        ),
        (
            changed(lambda graph: setattr(dimension(graph), "dim_param", "N")),
            r"^file\.onnx: input x leaves its size N open: --size N=N fixes it$",
        ),
        (refused_conv(held(scale=np.float32(np.nan))), r"\n  QuantizeLinear node_t0: its scale is nan$"),
        (refused_conv(held(scale=np.float32(np.inf))), r"\n  QuantizeLinear node_t0: its scale is inf$"),
    ],
)
def test_damaged_files(tmp_path: Path, made: Made, sentence: str) -> None:
    with pytest.raises(WorkloadError, match=sentence):
        read_network(made(tmp_path))


def sparse(graph: Any) -> None:
    """Its weights, of which one number is not 0."""
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    where = numpy_helper.from_array(np.zeros(1, np.int64))
    graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, where, [2, 3, 1, 1]))


def beside(folder: Path) -> Path:
    """Weights in a file of their own."""
    file = changed(lambda graph: None)(folder)
    model = onnx.load(file)
    (tensor,) = (each for each in model.graph.initializer if each.name == "w")
    (folder / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    file.write_bytes(model.SerializeToString())
    return file


def test_weights_beside_a_file(tmp_path: Path) -> None:
    network, plain = read_network(beside(tmp_path)), read_network(changed(lambda graph: None)(tmp_path))
    assert Constants(network.constants).digest == Constants(plain.constants).digest


def test_attributes_of_several_texts(tmp_path: Path) -> None:
    """What no operator here has is passed over."""
    file = changed(lambda graph: graph.node[3].attribute.append(onnx.helper.make_attribute("notes", ["a", "b"])))(tmp_path)
    assert read_network(file).graph.operations


@pytest.mark.parametrize(
    ("made", "limit", "value", "sentence"),
    [
        (changed(sparse), "MOST_NODES", 1 << 10, r"^file\.onnx: w is sparse, which is not read$"),
        (changed(lambda graph: None), "MOST_BYTES", 99, r"^file\.onnx has [0-9]+ bytes, more than 99$"),
        (changed(lambda graph: None), "MOST_NODES", 5, r"^file\.onnx has 6 nodes, more than 5$"),
    ],
)
def test_limits(tmp_path: Path, made: Made, limit: str, value: int, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, limit, value)
    with pytest.raises(WorkloadError, match=sentence):
        read_network(made(tmp_path))


def test_what_lies_beside_has_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = beside(tmp_path)
    length = file.stat().st_size
    (tmp_path / "weights.bin").write_bytes(b"\0" * (length + 1))
    monkeypatch.setattr(files, "MOST_BYTES", length)
    sentence = rf"^file\.onnx: 'weights\.bin' has {length + 1:,} bytes, more than {length:,}$"
    with pytest.raises(WorkloadError, match=sentence):
        read_network(file)


def test_folders_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(WorkloadError, match=r"folder\.onnx cannot be read: Is a directory$"):
        read_network(tmp_path / "folder.onnx")


def test_wherever_a_file_ends(tmp_path: Path) -> None:
    """Cut anywhere it is refused, or read as what is left: nothing else is raised."""
    whole = refused_conv(lambda graph: None)(tmp_path).read_bytes()
    refused = 0
    for length in range(0, len(whole), 2):
        (tmp_path / "part.onnx").write_bytes(whole[:length])
        try:
            read_network(tmp_path / "part.onnx")
        except WorkloadError:
            refused += 1
    assert refused > 0.95 * len(whole) / 2


def test_bytes_that_are_wrong(tmp_path: Path) -> None:
    """A bit flipped anywhere: refused with a sentence, or read."""
    whole = refused_conv(lambda graph: None)(tmp_path).read_bytes()
    refused = 0
    for at in range(0, len(whole), 2):
        (tmp_path / "odd.onnx").write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        try:
            read_network(tmp_path / "odd.onnx")
        except WorkloadError:
            refused += 1
    assert refused > 0.3 * len(whole) / 2


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """Protocol buffers give them as bytes."""
    file = changed(lambda graph: None)(tmp_path)
    content = file.read_bytes()
    assert b"node_t0" in content
    file.write_bytes(content.replace(b"node_t0", b"node_\xff\xfe"))
    with pytest.raises(WorkloadError, match=r"^file\.onnx: the name b'node_\\xff\\xfe' is not UTF-8$"):
        read_network(file)
