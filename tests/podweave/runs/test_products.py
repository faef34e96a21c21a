"""Products of two computed tensors in ONNX files, as squeeze-excite has them: wrong ones are seen, in bands, refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from podweave.compiler.chip import job_tables
from podweave.compiler.compile_network import CompileOptions, compile_network
from podweave.fuzz.random_files import PRODUCTS
from podweave.ir.constants import with_scale_bits
from podweave.ir.frontends.onnx import Network
from podweave.ir.layers import WorkloadError
from podweave.ir.operations import Linear, Window
from podweave.runs.accelerator import AcceleratorWay
from podweave.runs.model_files import file_job, fitted
from podweave.runs.road import Simulation, run_jobs
from podweave.spec.jobs import Reduce
from tests.podweave.runs.even_chips import GATED, NARROW
from tests.podweave.runs.file_cases import compared, random_network
from tests.podweave.runs.test_cut import spills


def gated(folder: Path, seed: int) -> tuple[Network, Path]:
    """A random network with squeeze-excite, and products with branches."""
    return random_network(folder, seed, among=PRODUCTS, surely=("gate",), size=5)


def product_of(network: Network) -> Linear:
    """The first product whose factors have zero points."""
    return next(each for each in network.graph.operations if each.is_product and len(each.operands) == 2)


Fault = Callable[[Network, Linear], Network]


def another_channel(network: Network, product: Linear) -> Network:
    """The next one of both factors, or the zero point behind them."""
    first, second = product.operands
    return with_operation(network, replace(product, operands=(replace(first, channels=(1, first.layer.channels)), second)))


def without_zero_point(network: Network, product: Linear) -> Network:
    held = network.constants[product.name]
    constants = {**network.constants, product.name: replace(held, weights=held.weights[:1])}
    return with_operation(replace(network, constants=constants), replace(product, operands=product.operands[:1]))


def another_scale(network: Network, product: Linear) -> Network:
    fewer = with_scale_bits({product.name: network.constants[product.name]}, 8)
    return replace(network, constants={**network.constants, product.name: fewer[product.name]})


def another_zero(network: Network, product: Linear) -> Network:
    held = network.constants[product.name]
    moved = replace(held, zero_point=held.zero_point + (1 if held.zero_point < 127 else -1))
    return replace(network, constants={**network.constants, product.name: moved})


def with_operation(network: Network, made: Linear) -> Network:
    operations = tuple(made if each.name == made.name else each for each in network.graph.operations)
    return replace(network, graph=replace(network.graph, operations=operations))


@pytest.mark.parametrize("fault", [another_channel, without_zero_point, another_scale, another_zero])
def test_what_is_wrong_is_no_tie(tmp_path: Path, fault: Fault) -> None:
    network, file = gated(tmp_path, 2001)
    product = product_of(network)
    wrong = fault(network, product)
    (row,) = (row for row in compared(wrong, file, 1) if row["operation"] == product.name)
    assert row["differing"] > row["ties"]


@pytest.mark.parametrize(
    ("seeds", "cut"),
    [
        ([2003, 2010], 1),
        *(pytest.param(range(s, s + 10), cut, marks=pytest.mark.campaign) for s, cut in ((2120, 1), (2130, 2))),
    ],
)
@pytest.mark.campaign
def test_products_that_are_cut(tmp_path: Path, seeds: list[int], cut: int) -> None:
    """Into bands between which tensors lie in memory: both factors of a position stay together."""
    jobs = [file_job(gated(tmp_path, seed)[0], GATED, seed) for seed in seeds]
    report, _, networks = run_jobs(jobs, AcceleratorWay(GATED, cut=cut, check="always"), Simulation(), lambda _: None)
    assert (report["verdict"], report["cycles"]) == ("pass", report["predicted_cycles"])
    assert all(spills(network) for network in networks)


def test_products_that_are_none_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of two positions instead, in RTL."""
    monkeypatch.setitem(job_tables._REDUCE, "product", Reduce.SUM)
    network, _ = gated(tmp_path, 2003)
    jobs = [file_job(network, GATED, 2003)]
    report, _, _ = run_jobs(jobs, AcceleratorWay(GATED, check="never"), Simulation(), lambda _: None)
    assert report["verdict"] == "fail"


def test_where_there_are_no_row_functions(tmp_path: Path) -> None:
    network, _ = gated(tmp_path, 2001)
    product = product_of(network)
    sentence = (
        rf"^{product.name} multiplies two tensors, which narrow2x4 cannot: its row_registers \(of \[post\]\) are 0; "
        "chip16x32_products has them$"
    )
    with pytest.raises(WorkloadError, match=sentence):
        compile_network(network.graph, NARROW, fitted(network.constants, NARROW), CompileOptions(from_memory=True))


def test_what_no_product_may_be(tmp_path: Path) -> None:
    network, _ = gated(tmp_path, 2001)
    product = product_of(network)
    with pytest.raises(WorkloadError, match=rf"^{product.name}: a product is of two positions, got a window of \(1, 3\)$"):
        replace(product, window=Window("product", (1, 3), (1, 3)))
    held = network.constants[product.name]
    large = tuple(np.where(weights, -128, 0).astype(np.int8) for weights in held.weights)
    wrong = {**network.constants, product.name: replace(held, weights=large)}
    sentence = rf"{product.name} multiplies sums of channel 0 that may be 32768, more than 16 bits hold \(32767\)$"
    with pytest.raises(WorkloadError, match=sentence):
        compile_network(network.graph, GATED, fitted(wrong, GATED), CompileOptions(from_memory=True))
