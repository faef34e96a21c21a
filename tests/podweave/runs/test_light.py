"""Topologies that ship with the onnx package, without the weights of anybody: each runs, or is refused for an operator by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from podweave.ir.frontends.onnx import Network, read_network
from podweave.ir.layers import WorkloadError
from podweave.runs.accelerator import model_on_device
from podweave.runs.float_files import FileRecipe, quantise_file
from podweave.spec.presets import load_config

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
REFUSED = {
    "bvlc_alexnet": {"Softmax"},
    "densenet121": set(),
    "inception_v1": {"Softmax"},
    "inception_v2": {"Softmax"},
    "resnet50": {"Softmax"},
    "shufflenet": {"Softmax"},
    "squeezenet": {"Softmax"},
    "vgg19": {"Softmax"},
    "zfnet512": {"Softmax"},
}
"""Operators that are not taken."""
FAST = ("squeezenet",)
NORMALISED = ("bvlc_alexnet", "inception_v1", "zfnet512")
"""By responses of neighbouring channels, which takes products of two tensors."""


def quantised(folder: Path, name: str, *, host_ops: bool) -> Network:
    file, made = LIGHT / f"light_{name}.onnx", folder / f"{name}.onnx"
    model = onnx.load(file)
    held = {each.name for each in model.graph.initializer}
    given = {each.name: each for each in model.graph.input if each.name not in held}
    rng = np.random.default_rng(0)
    sizes = {key: [dim.dim_value for dim in each.type.tensor_type.shape.dim] for key, each in given.items()}
    np.savez(folder / "some.npz", **{key: rng.normal(size=size).astype(np.float32) for key, size in sizes.items()})
    quantise_file(
        str(file), made, folder / "some.npz", None, FileRecipe(), accuracy=False, host_ops=host_ops, progress=lambda _: None
    )
    return read_network(made, host_ops=host_ops)


def test_all_of_them_are_here() -> None:
    assert {path.stem.removeprefix("light_") for path in LIGHT.glob("*.onnx")} == set(REFUSED)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.campaign] * (name not in FAST)) for name in REFUSED])
def test_runs_or_is_refused_by_name(tmp_path: Path, name: str) -> None:
    if REFUSED[name]:
        with pytest.raises(WorkloadError) as caught:
            quantised(tmp_path, name, host_ops=False)
        lines = str(caught.value).splitlines()[1:]
        assert {line.split()[0] for line in lines} == REFUSED[name]
    network = quantised(tmp_path, name, host_ops=True)
    assert {left.split()[0] for left in network.on_host} >= REFUSED[name]
    multiplies = any(operation.is_product for operation in network.graph.operations)
    assert multiplies == (name in NORMALISED)
    report, _ = model_on_device([network.graph], load_config("chip16x32_products" if multiplies else "chip16x32"))
    assert report["cycles"] > network.graph.macs / (16 * 32 * 32)
