"""Two IP blocks in one design: their names do not meet, and a user's own sources are linted as without them."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podweave.ip.write import write_ip
from podweave.spec.config_parts import ConfigError, PrefetchConfig
from podweave.spec.presets import load_config
from tb.build.toolchain import find_toolchain
from tests.rtl.accelerator.designs import bodies
from tests.verilator_lint import VERILATORS, lint

SMALL = replace(load_config("chip2x4"), prefetch=PrefetchConfig(managers=2, data_width=64))
LARGE = replace(SMALL.replace(pods=4, banks=4, cols=8), prefetch=PrefetchConfig(managers=1, data_width=128))
# The second has the same name: its prefix is chosen.
BLOCKS = {"chip2x4": (SMALL, None), "second": (LARGE, "second")}


@functools.cache
def files() -> dict[str, str]:
    """Contents of the two directories, by path."""
    with tempfile.TemporaryDirectory() as name:
        for folder, (config, prefix) in BLOCKS.items():
            write_ip(config, Path(name, folder), prefix=prefix)
        return {path.relative_to(name).as_posix(): path.read_text() for path in sorted(Path(name).rglob("*.*"))}


def sidecar(prefix: str) -> dict[str, Any]:
    return json.loads(files()[f"{prefix}/{prefix}_accelerator.json"])


def top_of_both() -> str:
    """A design of a user: both blocks, all their ports outside."""
    ports, instances = ["input wire clk", "input wire rst"], []
    for prefix in BLOCKS:
        connections = [".clk(clk)", ".rst(rst)"]
        for port in sidecar(prefix)["ports"][2:]:
            width = f"[{port['width'] - 1}:0] " if port["width"] > 1 else ""
            ports.append(f"{port['direction']} wire {width}{prefix}_{port['name']}")
            connections.append(f".{port['name']}({prefix}_{port['name']})")
        instances.append(f"  {sidecar(prefix)['top']} {prefix}(\n    " + ",\n    ".join(connections) + "\n  );\n")
    return "module top(\n  " + ",\n  ".join(ports) + "\n);\n" + "".join(instances) + "endmodule\n"


def sources_of_both() -> list[str]:
    """As a build lists them that depends on both cores: those of the default target of each, before the user's own."""
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    found = []
    for prefix in BLOCKS:
        core = yaml.safe_load(files()[f"{prefix}/podweave_{prefix}.core"])
        for fileset in core["targets"]["default"]["filesets"]:
            found += [f"{prefix}/{file}" for file in core["filesets"][fileset]["files"]]
    return [*found, "top.v"]


def write_all(directory: Path, top: str) -> None:
    for name, content in files().items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(content)
    (directory / "top.v").write_text(top)


def test_names_do_not_meet() -> None:
    names: dict[str, set[str]] = {prefix: {Path(name).name for name in files() if name.startswith(prefix)} for prefix in BLOCKS}
    assert {len(names[prefix]) for prefix in BLOCKS} == {9}
    assert not names["chip2x4"] & names["second"]
    modules = [set(bodies(files()[f"{prefix}/{prefix}_accelerator.v"])) for prefix in BLOCKS]
    assert min(map(len, modules)) > 29
    assert not modules[0] & modules[1]
    for prefix, (config, _) in BLOCKS.items():
        own = {name: content for name, content in files().items() if name.startswith(prefix)}
        assert f'name: "podweave:ip:{prefix}:' in own[f"{prefix}/podweave_{prefix}.core"]
        assert f"Names of all modules begin with `{prefix}_`" in own[f"{prefix}/podweave_{prefix}_constraints.md"]
        assert own[f"{prefix}/podweave_{prefix}_ports.md"].startswith(f"# Ports of `{prefix}_accelerator` ({config.name})")
        described = sidecar(prefix)
        assert all(name.startswith(f"{prefix}_") for name in described["modules"])
        assert described["config"] == config.to_dict()


@pytest.mark.parametrize("which", VERILATORS)
@pytest.mark.campaign
def test_both_are_one_design_without_warnings(tmp_path: Path, which: str) -> None:
    write_all(tmp_path, top_of_both())
    assert lint(which, tmp_path, sources_of_both(), "top") == (0, "")


@pytest.mark.parametrize("which", VERILATORS)
@pytest.mark.campaign
def test_warnings_of_a_user_are_not_waived(tmp_path: Path, which: str) -> None:
    """Each rule that is off in our files is on in others, one with a name like that of ours included."""
    planted = """\
module other(input wire [3:0] i, output wire [7:0] wide, output wire [1:0] narrow, output reg o);
  wire unused;
  assign wide = i;
  assign narrow = i;
  always @* begin
    o = i > 4'd15 || i < 4'd0;
    casez (i)
      4'b1???: o = 1'b1;
      4'b?1??: o = 1'b0;
      default: ;
    endcase
  end
endmodule
"""
    write_all(tmp_path, top_of_both().replace("endmodule", "  wire planted;\nendmodule"))
    (tmp_path / "my_second_accelerator.v").write_text(planted)
    sources = sources_of_both()
    code, warnings = lint(which, tmp_path, [*sources[:-1], "my_second_accelerator.v", sources[-1]], "top")
    # Nothing is said of our files, and what is not reached from the top is still looked at.
    assert code
    said = [line for line in warnings.splitlines() if line.startswith("%Warning-")]
    assert not [line for line in said if " chip2x4/" in line or " second/" in line]
    assert any(line.startswith("%Warning-UNUSEDSIGNAL: top.v:") and "'planted'" in line for line in said)
    code, warnings = lint(which, tmp_path, [*sources[:-1], "my_second_accelerator.v"], "other")
    for rule in ("DECLFILENAME", "WIDTH", "CMPCONST", "UNSIGNED", "CASEOVERLAP"):
        assert f"%Warning-{rule}" in warnings, rule
    # Widths end a run of Verilator before it looks for what is unused.
    (tmp_path / "my_second_accelerator.v").write_text("module lonely(input wire i);\nendmodule\n", encoding="utf-8")
    code, warnings = lint(which, tmp_path, [*sources[:-1], "my_second_accelerator.v"], "lonely")
    assert "%Warning-UNUSEDSIGNAL: my_second_accelerator.v:1:" in warnings


@pytest.mark.parametrize("compiler", [("gcc", "-std=c99"), ("g++", "-std=c++17")])
def test_both_headers_fit_into_one_program(tmp_path: Path, compiler: tuple[str, str]) -> None:
    write_all(tmp_path, "")
    program = """\
#include "chip2x4/podweave_chip2x4.h"
#include "second/podweave_second.h"

int main(void)
{
    uint32_t words[2] = {PODWEAVE_CHIP2X4_CHIP_MANAGERS_VALUE, PODWEAVE_SECOND_CHIP_MANAGERS_VALUE};
    enum podweave_chip2x4_refusal one = PODWEAVE_CHIP2X4_REFUSAL_EPOCHS;
    enum podweave_second_refusal other = PODWEAVE_SECOND_REFUSAL_RING_SIZE;
    podweave_second_write(words, 4, podweave_second_read(words, 4) + podweave_chip2x4_read(words, 0));
    return words[1] == 3 && one == 2 && other == 4 && podweave_chip2x4_read64(words, 0) == 0x300000002ull ? 0 : 1;
}
"""
    (tmp_path / "main.c").write_text(program)
    warnings = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
    subprocess.run([*compiler, *warnings, "-o", "main", "main.c"], cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "main"], check=True)


def test_name_of_a_configuration_that_is_no_prefix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^a prefix must not be a keyword of Verilog or C, got 'table'$"):
        write_ip(SMALL.replace(name="table"), tmp_path / "ip")
    assert not (tmp_path / "ip").exists()
    assert (tmp_path / "ip" / "mine_accelerator.v") in write_ip(SMALL.replace(name="Mine"), tmp_path / "ip")


@pytest.mark.campaign
def test_waivers_come_along_in_fusesoc(tmp_path: Path) -> None:
    write_all(tmp_path, top_of_both())
    (tmp_path / "user.core").write_text("""\
CAPI=2:
name: "user::top:1.0"
filesets:
  rtl:
    depend: ["podweave:ip:chip2x4", "podweave:ip:second"]
    files: ["top.v"]
    file_type: "verilogSource-2005"
targets:
  lint:
    filesets: ["rtl"]
    toplevel: "top"
    flow: "lint"
    flow_options: {tool: "verilator", verilator_options: ["-Wall"]}
""")
    # FuseSoC calls the `verilator` on PATH: let it be the one that everything else is built with.
    toolchain = find_toolchain()
    environment = toolchain.environment()
    environment["PATH"] = os.pathsep.join([str(toolchain.verilator.parent), environment["PATH"]])
    command = [Path(sys.executable).with_name("fusesoc"), "--cores-root", ".", "run", "--target", "lint", "user::top"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert "%Warning" not in result.stdout + result.stderr
