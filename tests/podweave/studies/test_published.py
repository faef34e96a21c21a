"""podweave.studies.published: tables that are whole, say where they are from, and agree with one another."""

import json
from pathlib import Path
from statistics import harmonic_mean

import pytest

from podweave.ir.frontends import load_graph
from podweave.ir.layers import WorkloadError
from podweave.studies import published as published_module
from podweave.studies.published import load_published, published_names

TABLES = load_published().tables


def number(table: str, row: str, column: str) -> float:
    value = TABLES[table].value(row, column)
    assert value is not None
    return value


@pytest.mark.parametrize(("name", "address"), [("sosa", "2203.11540"), ("torch2riscv", "github.com/jonathansong/")])
def test_every_table_says_where_it_is_from(name: str, address: str) -> None:
    published = load_published(name)
    assert address in published.source
    for table in published.tables.values():
        assert any(table.provenance.startswith(word) for word in published.provenance), table.name
        assert table.title
        assert table.unit
        assert table.note
        assert table.rows


def test_which_tables_there_are() -> None:
    assert published_names() == ["sosa", "torch2riscv"]
    assert list(load_published("torch2riscv").tables) == ["decode", "prefill"]
    published = load_published("sosa")
    assert list(published.tables) == [
        "granularity",
        "granularity_pods",
        "operating_point",
        "design_space",
        "design_space_optima",
        "interconnect",
        "interconnect_power",
        "busy_pods",
        "busy_pods_workloads",
        "partition",
        "bank_size",
    ]


def test_means_are_those_of_their_rows() -> None:
    for row, values in TABLES["granularity"].rows.items():
        *workloads, mean = (value for value in values if value is not None)
        assert len(workloads) == 10
        assert harmonic_mean(workloads) == pytest.approx(mean, abs=0.1), row


def test_tables_agree_with_one_another() -> None:
    # The operating point is a cell of the interconnects, a cell of the partition, and the normalised bar times 260.2 / 400.
    tops = number("operating_point", "hmean", "tops")
    assert tops == number("interconnect", "256", "butterfly-2") == number("partition", "hmean", "32")
    assert number("operating_point", "hmean", "watts") == number("interconnect_power", "256", "butterfly-2")
    for row, column in (("hmean", "hmean"), ("resnet152_299", "resnet152_299")):
        raw = number("granularity", "32x32", column) * 260.2 / 400
        assert raw == pytest.approx(number("operating_point", row, "tops"), abs=0.1)
        used = number("operating_point", row, "tops") / number("operating_point", row, "peak_tops")
        assert 100 * used == pytest.approx(number("operating_point", row, "utilisation_percent"), abs=0.1)
    parts = sum(number("operating_point", "hmean", part) for part in ("sram_watts", "compute_watts", "network_watts"))
    assert parts == pytest.approx(number("operating_point", "hmean", "watts"), abs=0.1)
    # 256 pods of 32 x 32, two operations per cycle of 1 ns.
    assert number("granularity_pods", "32x32", "pods") * 2 * 32 * 32 / 1e3 == pytest.approx(524.3, abs=0.05)
    assert TABLES["granularity_pods"].rows.keys() == TABLES["granularity"].rows.keys()


@pytest.mark.parametrize(("table", "best"), [("granularity", "32x32"), ("design_space", "32x32")])
def test_best_size(table: str, best: str) -> None:
    values = TABLES[table].column(TABLES[table].columns[-1])
    assert max(values, key=lambda row: values[row]) == best


def test_workloads_are_names_of_graphs() -> None:
    for name in (*TABLES["granularity"].columns[:-1], *TABLES["busy_pods_workloads"].rows):
        assert load_graph(name).name == name


def test_missing_figures() -> None:
    table = TABLES["interconnect"]
    assert table.value("256", "bus") is None
    assert table.value("512", "crossbar") is None
    assert table.value("256", "mesh") is None
    assert table.column("bus") == {"32": 1.7, "64": 1.7, "128": 1.7}
    assert table.column("mesh") == {}
    with pytest.raises(WorkloadError, match=r"^no published figures of 'tpu'; there are those of sosa, torch2riscv$"):
        load_published("tpu")


def test_row_of_the_wrong_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"title": "t", "unit": "u", "provenance": "p", "note": "n", "columns": ["a", "b"], "rows": {"r": [1]}}
    (tmp_path / "bad.json").write_text(json.dumps({"source": "s", "provenance": {}, "tables": {"t": table}}))
    monkeypatch.setattr(published_module, "_DIRECTORY", tmp_path)
    with pytest.raises(WorkloadError, match=r"^bad: t: row r has 1 values for 2 columns$"):
        load_published("bad")
