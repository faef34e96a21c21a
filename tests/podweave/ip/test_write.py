"""An IP directory: parsed by the tools that it is for, and held against the design that it describes."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podweave.ip.register_pages import c_header, general_page, register_page
from podweave.ip.write import write_ip
from podweave.spec.config_parts import PrefetchConfig
from podweave.spec.links_config import LinksConfig
from podweave.spec.presets import load_config
from podweave.spec.register_map import MANAGER_PITCH, RegisterMap
from tests.verilator_lint import VERILATORS, lint

ROOT = Path(__file__).resolve().parents[3]
CONFIG = replace(
    load_config("chip2x4"), prefetch=PrefetchConfig(managers=2, data_width=64), links=LinksConfig(flit_bits=64, buffer_words=4)
)
CHIP = replace(load_config("pod4"), name="bare4", prefetch=None)
C = "PODWEAVE_CHIP2X4"
"""What macros begin with."""
NAME, TOP = "podweave_chip2x4", "chip2x4_accelerator"


@functools.cache
def files() -> dict[str, str]:
    """Contents of the directory of an accelerator, by name."""
    with tempfile.TemporaryDirectory() as name:
        return {path.name: path.read_text() for path in write_ip(CONFIG, Path(name, "new", "folder"))}


def sidecar(name: str) -> Any:
    return json.loads(files()[f"{TOP}.json"])[name]


def parsed_core(text: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    return yaml.safe_load(text)


def test_files() -> None:
    assert set(files()) == {
        *(f"{TOP}.v", f"{TOP}.vlt", f"{TOP}.json"),
        *(f"{NAME}.core", f"{NAME}.sdc", f"{NAME}.h", f"{NAME}_ports.md", f"{NAME}_constraints.md", f"{NAME}_registers.md"),
    }
    assert files()[f"{NAME}_registers.md"] == register_page(CONFIG)
    assert files()[f"{NAME}.h"] == c_header(CONFIG, "chip2x4")
    assert sidecar("top") == TOP


def test_a_chip_alone_has_no_registers_and_the_same_bytes_twice(tmp_path: Path) -> None:
    first, second = (write_ip(CHIP, tmp_path / folder) for folder in ("a", "b"))
    names = [path.name for path in first]
    name = "podweave_bare4"
    others = [f"{name}.core", f"{name}_ports.md", f"{name}_constraints.md", f"{name}.sdc"]
    assert names == ["bare4_chip.v", "bare4_chip.vlt", "bare4_chip.json", *others]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert "AXI" not in (tmp_path / "a" / f"{name}_constraints.md").read_text()


def test_core_names_files_that_are_there() -> None:
    assert files()[f"{NAME}.core"].startswith("CAPI=2:\n")
    core = parsed_core(files()[f"{NAME}.core"])
    assert re.fullmatch(r"podweave:ip:chip2x4:\d+(\.\d+)+", core["name"])
    named = [file for fileset in core["filesets"].values() for file in fileset["files"]]
    assert set(named) <= set(files())
    assert {f"{TOP}.v", f"{TOP}.vlt", f"{NAME}.sdc", f"{NAME}.h"} == set(named)
    assert set(core["targets"]) == {"default", "lint", "synth"}
    for target in core["targets"].values():
        assert target["toplevel"] == TOP
        assert set(target["filesets"]) <= set(core["filesets"])
    assert core["targets"]["default"]["filesets"] == core["targets"]["lint"]["filesets"] == ["waivers", "rtl"]
    assert core["filesets"]["waivers"] == {"files": [f"{TOP}.vlt"], "file_type": "vlt"}
    assert core["targets"]["lint"]["flow_options"] == {"tool": "verilator", "verilator_options": ["-Wall"]}


def lint_target(directory: Path, which: str) -> tuple[int, str]:
    """What the lint target of the core asks for."""
    core = parsed_core((directory / f"{NAME}.core").read_text())
    target = core["targets"]["lint"]
    assert target["flow_options"]["verilator_options"] == ["-Wall"]
    sources = [file for fileset in target["filesets"] for file in core["filesets"][fileset]["files"]]
    return lint(which, directory, sources, target["toplevel"])


@pytest.mark.parametrize("which", VERILATORS)
def test_lint_target_finds_nothing_but_what_is_planted(tmp_path: Path, which: str) -> None:
    for name, content in files().items():
        (tmp_path / name).write_text(content)
    assert lint_target(tmp_path, which) == (0, "")
    text = files()[f"{TOP}.v"]
    assert "assign irq = " in text
    (tmp_path / f"{TOP}.v").write_text(re.sub(r"^ *assign irq = .*\n", "", text, flags=re.MULTILINE))
    assert lint_target(tmp_path, which)[0]


def header_values(header: str, names: list[str], directory: Path) -> list[int]:
    """Expressions as a C compiler sees them."""
    prints = "\n".join(f'    printf("%llu\\n", (unsigned long long)({name}));' for name in names)
    program = """\
int main(void)
{
    uint32_t words[4] = {1, 2, 3, 4};
    podweave_chip2x4_write64(words, 4, 0x500000006ull);
    if (podweave_chip2x4_read(words, 0) != 1 || podweave_chip2x4_read(words, 12) != 4) return 1;
    if (podweave_chip2x4_read64(words, 4) != 0x500000006ull) return 1;
"""
    (directory / "registers.h").write_text(header)
    (directory / "main.c").write_text(f'#include <stdio.h>\n#include "registers.h"\n\n{program}{prints}\n    return 0;\n}}\n')
    command = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-o", "main", "main.c"]
    subprocess.run(command, cwd=directory, check=True)
    output = subprocess.run([directory / "main"], check=True, capture_output=True, text=True).stdout
    return [int(line) for line in output.split()]


def c_names() -> dict[str, int]:
    """Macros and codes of the header, and what they should be."""
    found = {
        f"{C}_LINK_ERROR_TIMEOUT": 1,
        f"{C}_REFUSAL_RING_SIZE": 4,
        f"{C}_PREFETCH_ERROR_CANCELLED": 12,
        f"{C}_POD_ERROR_BIT_EPOCH_OVERFLOW": 12,
    }
    for register in RegisterMap(CONFIG).registers.values():
        for word, name in enumerate(register.word_names):
            for manager in range(register.managers):
                found[f"{C}_{name}({manager})"] = register.offset + 4 * word + MANAGER_PITCH * manager
            if not register.managers:
                found[f"{C}_{name}"] = register.offset + 4 * word
        for field in register.fields:
            if field.name != "VALUE":
                macro = f"{C}_{register.name}_{field.name}"
                found |= {f"{macro}_SHIFT": field.low, f"{macro}_MASK": ((1 << field.width) - 1) << field.low}
    found[f"{C}_CONFIG_HASH_VALUE"] = RegisterMap(CONFIG)["CONFIG_HASH"].reset
    found[f"{C}_CHIP_MANAGERS_VALUE"] = 2
    return found


def test_c_header_says_what_the_register_map_says(tmp_path: Path) -> None:
    expected = c_names()
    assert len(expected) > 150
    assert dict(zip(expected, header_values(c_header(CONFIG, "chip2x4"), list(expected), tmp_path), strict=True)) == expected
    wrong = c_header(CONFIG, "chip2x4").replace(f"{C}_CAP 0x038u", f"{C}_CAP 0x03cu")
    assert header_values(wrong, [f"{C}_CAP"], tmp_path) != [expected[f"{C}_CAP"]]


def test_register_page_has_every_word_and_field() -> None:
    page = register_page(CONFIG)
    for register in RegisterMap(CONFIG).registers.values():
        base = 0x400 if register.managers else 0
        offsets = " ".join(f"{register.offset - base + 4 * word:#05x}" for word in range(register.words))
        assert page.count(f"| {offsets} | {' '.join(register.word_names)} | {register.access.value}") == 1
        for field in register.fields:
            if field.name != "VALUE":
                bits = f"{field.low + field.width - 1}:{field.low}" if field.width > 1 else f"{field.low}"
                assert page.count(f"| {register.name} | {bits} | {field.name} | ") == 1


def test_the_page_of_the_documentation_is_up_to_date() -> None:
    """To renew it: python -c "from podweave.ip.register_pages import *; print(general_page(), end='')" > docs/registers.md"""
    assert (ROOT / "docs" / "registers.md").read_text() == general_page()


def test_every_port_is_described() -> None:
    page = files()[f"{NAME}_ports.md"]
    for port in sidecar("ports"):
        row = re.search(rf"^\| {port['name']} \| {port['direction']} \| {port['width']} \| (.*) \|$", page, re.MULTILINE)
        assert row, port
        assert len(row[1]) > 5, port
    assert len(re.findall(r"^\| \w+ \| (?:in|out)put \|", page, re.MULTILINE)) == len(sidecar("ports"))


def test_memories_are_all_listed() -> None:
    listed = re.findall(
        r"^\| (\w+) \| (?:sram|lookup_table) \| (\d+) \| (\d+) \|$", files()[f"{NAME}_constraints.md"], re.MULTILINE
    )
    modules = sidecar("modules")
    assert {name: int(bits) for name, _, bits in listed} == {n: m["sram_bits"] for n, m in modules.items() if m["sram_bits"]}
    # Two nodes and two engines, of each memory at least one; one link port, and two stores of one collective engine.
    assert sum(int(count) == 1 for _, count, _ in listed) == 3


_TCL = """
proc create_clock {args} { puts "clock $args" }
proc get_ports {names} { return $names }
proc set_input_delay {delay option clock ports} { foreach port $ports { puts "input $delay $port" } }
proc set_output_delay {delay option clock ports} { foreach port $ports { puts "output $delay $port" } }
set period 4.0
source constraints.sdc
"""


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="needs tclsh")
def test_sdc_constrains_every_port_but_the_clock(tmp_path: Path) -> None:
    (tmp_path / "constraints.sdc").write_text(files()[f"{NAME}.sdc"])
    (tmp_path / "run.tcl").write_text(_TCL)
    seen = subprocess.run(["tclsh", "run.tcl"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.splitlines()
    assert seen[0] == "clock -name clk -period 4.0 clk"
    expected = [f"{p['direction']} 1.2 {p['name']}{'[*]' * (p['width'] > 1)}" for p in sidecar("ports") if p["name"] != "clk"]
    assert sorted(seen[1:]) == sorted(expected)
