"""`podweave prove`: a session of one property, its report, its page, and names that are none."""

from pathlib import Path

from tests.podweave.command_line import Cli, assert_refused


def test_one_property(cli: Cli, tmp_path: Path) -> None:
    page = tmp_path / "made" / "tables.md"
    proven = cli("prove", "equivalence.flit_crc", "--jobs", "1", "--page", str(page), "--json", "-")
    assert proven.code == 0
    (row,) = proven.report["equivalences"]
    assert (row["name"], row["compared"], row["unproven"], row["verdict"]) == ("equivalence.flit_crc", 16, 0, "pass")
    assert proven.report["processor_seconds"] > 0
    assert (proven.report["faults"], proven.report["faults_found"], proven.report["properties"]) == (1, 1, [])
    assert "| `equivalence.flit_crc` | 16 of 16 |" in page.read_text(encoding="utf-8")


def test_a_name_that_is_none(cli: Cli) -> None:
    assert_refused(cli("prove", "array"), "there is no property 'array'; there are job_queue.order")
