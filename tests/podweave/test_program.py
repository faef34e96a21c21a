"""How programs of podweave begin, as their user sees it: processes of their own, in any surroundings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import podweave.runs.chip
from podweave.compiler.jobs import JobFieldError, ProgramError
from podweave.program import extra
from podweave.spec.presets import load_config
from podweave.tb.build.toolchain import ToolchainError
from tests.podweave.command_line import Cli, assert_refused
from tests.podweave.programs import GEMM, PATIENCE, ended


def test_variables_of_other_benches_change_nothing() -> None:
    others = {
        **{"COCOTB_TESTCASE": "x", "COCOTB_TEST_FILTER": "x", "COCOTB_TEST_MODULES": "x", "COCOTB_TOPLEVEL": "x"},
        **{"TESTCASE": "x", "MODULE": "x", "TOPLEVEL": "x", "RANDOM_SEED": "x", "COCOTB_RANDOM_SEED": "x"},
        **{"GPI_USERS": "x", "GPI_EXTRA": "x:y", "PYGPI_PYTHON_BIN": "x", "VERILATOR_ROOT": "x", "PYTHONWARNINGS": "error"},
        **{"MAKEFLAGS": "--dry-run", "PYTHONOPTIMIZE": "2"},
    }
    code, out, err = ended(*GEMM, **others)
    assert (code, out.splitlines()[-1][:13]) == (0, "verdict: pass"), err


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        pytest.param({"PYTHONIOENCODING": "latin-1"}, marks=pytest.mark.campaign),
        pytest.param({"PYTHONIOENCODING": "ascii"}, marks=pytest.mark.more),
    ],
)
def test_names_that_a_terminal_has_no_letters_for_are_escaped(tmp_path: Path, variables: dict[str, str]) -> None:
    (tmp_path / "layers.csv").write_text("layer,M,K,N\nслой,5,6,7\n", encoding="utf-8")
    target = tmp_path / "report.json"
    code, out, err = ended(
        "run", str(tmp_path / "layers.csv"), "--config", "pod4", "--layers-alone", "--json", str(target), **variables
    )
    assert code == 0, err
    assert r"\u0441\u043b\u043e\u0439" in out
    assert json.loads(target.read_text(encoding="utf-8"))["networks"][0]["layers"][0]["layer"] == "слой"
    code, _, err = ended("model", "слой", "--config", "pod4", **variables)
    assert code == 2
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "cache", ["~/in the home", *(pytest.param(name, marks=pytest.mark.campaign) for name in ("with space/and $dollar", "relative"))]
)
@pytest.mark.campaign
def test_builds_in_any_folder(tmp_path: Path, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home of mine").mkdir()
    # What Yosys keeps takes a minute to make.
    user = {"XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())}
    place = {"HOME": str(tmp_path / "home of mine"), "TMPDIR": str(tmp_path / "home of mine"), "PODWEAVE_CACHE": cache, **user}
    code, _, err = ended(*GEMM, **place)
    assert code == 0, err
    folder = tmp_path / "home of mine" / "in the home" if cache.startswith("~") else tmp_path / cache
    assert {path.name for path in folder.iterdir()} == {"emitted", "modules", "blocks", "builds", "headers", "runtime"}
    assert list((folder / "runtime").rglob("*.a"))
    assert not (tmp_path / "~").exists()


@pytest.mark.campaign
def test_a_home_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    variables = {"HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path / "temporary"), "XDG_CACHE_HOME": "", "PODWEAVE_CACHE": ""}
    code, _, err = ended(*GEMM, **variables)
    assert code == 0, err
    expected = (
        f"podweave: {tmp_path}/file/.cache cannot be written (Not a directory): what is made is not kept for later runs; "
        "set XDG_CACHE_HOME"
    )
    assert err.splitlines()[0] == expected
    assert err.count("cannot be written") == 1
    assert list((tmp_path / "temporary").iterdir()) == []
    code, _, err = ended("presets", **variables)
    assert (code, err) == (0, "")


@pytest.mark.campaign
def test_a_chosen_cache_that_cannot_be_written_is_said_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = ended(*GEMM, PODWEAVE_CACHE=str(tmp_path / "file"))
    assert code == 0, err
    assert err.startswith(f"podweave: {tmp_path}/file cannot be written (File exists): ")


@pytest.mark.campaign
def test_packages_of_others_are_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tb", "rtl", "golden", "compiler", "synth", "formal", "spec", "ir", "predict", "processes", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('of others')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code, _, err = ended("run", "gemm:4x4x4", "--config", "chip2x4", PYTHONPATH=str(tmp_path))
    assert code == 0, err


LIGHT = {"amaranth", "scipy", "sklearn", "matplotlib", "onnxruntime", "onnx", "distributed", "cocotb"}


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], LIGHT | {"numpy"}),
        (["presets"], LIGHT | {"numpy"}),
        (["model", "gemm:8x8x8", "--config", "pod4", "--layers-alone"], LIGHT),
        (["model", "gemm:8x8x8", "--config", "chip2x4"], LIGHT),
        (["model", "gemm:8x8x8", "--config", "pod4", "--plot", "{tmp}/x.svg"], LIGHT - {"matplotlib"}),
    ],
)
def test_a_command_imports_what_it_uses(arguments: list[str], absent: set[str], tmp_path: Path) -> None:
    code = (
        "import atexit, runpy, sys\n"
        "atexit.register(lambda: print(*{name.partition('.')[0] for name in sys.modules}))\n"
        f"sys.argv = ['podweave', *{[argument.format(tmp=tmp_path) for argument in arguments]!r}]\n"
        "runpy.run_module('podweave', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "podweave" in loaded
    assert ("matplotlib" in loaded) == ("--plot" in arguments)
    assert not loaded & absent


@pytest.mark.parametrize("module", ["podweave.digits.train", "podweave.language.nano.train", "podweave.demo"])
def test_the_other_programs_start(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, encoding="utf-8", timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage:")


def test_digits_without_scikit_learn_name_the_extra(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "sklearn.datasets", raising=False)
    monkeypatch.delitem(sys.modules, "sklearn.model_selection", raising=False)
    assert_refused(
        cli("run", "digits", "--config", "chip4x16"),
        "podweave: the data set of the digits needs the Python package sklearn, which is not installed: pip install podweave[demo]",
    )


def test_training_without_torch_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        "sys.modules['torch'] = None\n"
        f"sys.argv = ['train', '--folder', {str(tmp_path)!r}]\n"
        "runpy.run_module('podweave.language.nano.train', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=PATIENCE)
    assert done.returncode == 2
    assert done.stderr == (
        "podweave: training needs the Python package torch, which is not installed: pip install podweave[train]\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_study_without_dask_names_the_extra(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PODWEAVE_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert_refused(
        cli("study", "banks", "--dask", "tcp://127.0.0.1:1"),
        "podweave: --dask needs the Python package distributed, which is not installed: pip install podweave[dask]",
    )


def test_other_import_errors_are_not_of_an_extra() -> None:
    sentence = "^this needs the Python package no_such, which is not installed: pip install"
    with pytest.raises(ToolchainError, match=sentence), extra("demo", "this"):
        import no_such  # type: ignore[import-not-found] # noqa: F401
    with pytest.raises(ImportError, match="nothing"), extra("demo", "this"):
        from podweave.program import nothing  # type: ignore[attr-defined] # noqa: F401


@pytest.mark.parametrize(
    "error", [ProgramError("load job 3: W address 70 is outside of 0 to 63"), JobFieldError("load_job 0: n0 is 17")]
)
def test_rules_that_programs_break_are_sentences(cli: Cli, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(podweave.runs.chip, "compile_kept", refuse)
    assert_refused(cli("model", "gemm:5x6x7", "--config", "pod4", "--layers-alone"), f"podweave: {error}")


def test_what_no_user_can_mend_keeps_its_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("of ours")

    monkeypatch.setattr(podweave.runs.chip, "compile_kept", broken)
    with pytest.raises(KeyError, match="of ours"):
        cli("model", "gemm:5x6x7", "--config", "pod4", "--layers-alone")


@pytest.mark.parametrize(
    ("preset", "workload", "changes", "sentence"),
    [
        ("chip4x16", "gemm:3000x40x40", {"time_width": 9}, "podweave: the epoch would last 6858 cycles, 6347 more than time_width"),
        ("chip4x16", "gemm:8000x40x40", {"count_width": 4}, "podweave: gemm:8000x40x40: P bank 0 is full"),
    ],
)
def test_job_fields_that_are_too_small_are_named(
    cli: Cli, tmp_path: Path, preset: str, workload: str, changes: dict[str, int], sentence: str
) -> None:
    (tmp_path / "small.toml").write_text(load_config(preset).replace(name="small", **changes).to_toml(), encoding="utf-8")
    whole = ("--through", "backdoor")
    assert_refused(cli("model", workload, "--config", tmp_path / "small.toml", *whole), sentence)


PREFETCH = "podweave: study prefetch is of one chip, chip16x32, computed here and anew: leave out "


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["study", "prefetch", "--jobs", "1"],
            PREFETCH + "--jobs",
        ),
        (
            ["study", "prefetch", "--dask", "tcp://127.0.0.1:1"],
            PREFETCH + "--dask",
        ),
        (
            ["study", "prefetch", "--fresh"],
            PREFETCH + "--fresh",
        ),
        (
            ["study", "prefetch", "--pods", "16"],
            PREFETCH + "--pods",
        ),
        (["study", "banks", "--jobs", "2", "--dask", "tcp://127.0.0.1:1"], "Invalid value for --jobs: is for processes here"),
        (["bench", "bus", "--repeat", "2"], "Invalid value for --repeat: is not for bus, which is measured once"),
    ],
)
def test_options_that_would_do_nothing_are_refused(cli: Cli, arguments: list[str], sentence: str) -> None:
    assert_refused(cli(*arguments), sentence)
