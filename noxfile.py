"""What a person does with this repository, one session each: `nox -l` lists them."""

from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]

# No core waits for the last tests of another.
ON_ALL_CORES = ("-n", "auto", "--dist", "worksteal")


def keep_bytecode(session: nox.Session) -> None:
    """Thousands of programs start, each simulation among them: what they import is compiled once, whatever the shell says."""
    folder = Path(session.cache_dir, "bytecode").absolute()
    session.env.update(PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=str(folder))


@nox.session
def demo(session: nox.Session) -> None:
    """Classify 500 held-out images of real digits on a chip in RTL: accuracy, verdict, cycles, picture."""
    session.install("-e", ".[demo]")
    session.run("python", "-m", "podweave.demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Every fast test, on all cores."""
    session.install("-e", ".[test]")
    # Simulations are short.
    session.env["PODWEAVE_OPTIMIZE"] = "build"
    keep_bytecode(session)
    session.run("pytest", *ON_ALL_CORES, "-m", "not campaign and not more", *session.posargs)


@nox.session
def campaign(session: nox.Session) -> None:
    """Long: every ResNet-50 layer in RTL, hundreds of random programs, more sizes and cases of every block."""
    session.install("-e", ".[test]")
    keep_bytecode(session)
    session.run("pytest", *ON_ALL_CORES, "-m", "campaign or more", *session.posargs)


@nox.session
def formal(session: nox.Session) -> None:
    """Proofs of the contracts of blocks, and the planted faults that they must find."""
    session.install("-e", ".[formal]")
    session.run("podweave", "prove", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Small faults in every block: how many of them its own tests find (docs/mutants.md)."""
    session.install("-e", ".[test]")
    keep_bytecode(session)
    session.run("python", "-m", "tests.mutants", *(session.posargs or ["--json", "docs/mutants.json"]))


@nox.session
def python_mutants(session: nox.Session) -> None:
    """Small faults in the Python of compiler, golden models and predictions: how many of them tests find (docs/mutants.md)."""
    session.install("-e", ".[test]", "cosmic-ray>=8.7,<9")
    keep_bytecode(session)
    session.run("python", "-m", "tests.python_mutants", *(session.posargs or ["--json", "docs/python_mutants.json"]))


@nox.session
def coverage(session: nox.Session) -> None:
    """What tests reach of the Verilog of all blocks, which points they see; with --python, of the Python (docs/coverage.md)."""
    session.install("-e", ".[test]")
    keep_bytecode(session)
    session.run("python", "-m", "tests.coverage", *(session.posargs or ["--json", "docs/coverage.json"]))


@nox.session
def lint(session: nox.Session) -> None:
    """Style of the Python code."""
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Static types."""
    # mypy does not follow the mapping of an editable installation, and takes the folders for packages of their own.
    session.install(".[dev]")
    settings = Path("pyproject.toml").resolve()
    session.chdir(session.create_tmp())
    session.run("mypy", "--config-file", str(settings), "-p", "podweave")


@nox.session
def bench(session: nox.Session) -> None:
    """Speed of emission, build and simulation."""
    session.install("-e", ".")
    session.run("podweave", "bench", *(session.posargs or ["all"]))


@nox.session
def area(session: nox.Session) -> None:
    """Area of the pods, per block."""
    session.install("-e", ".")
    for preset in session.posargs or ["pod16", "pod32"]:
        session.run("podweave", "area", preset, "--block", "pod")
