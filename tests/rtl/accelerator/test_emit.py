"""rtl.accelerator.emit: the same bytes for a configuration, one module per distinct block, a sidecar that tells the truth."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from podweave.rtl.accelerator.emit import Emitted, emit, emit_block
from podweave.rtl.parts.amaranth_internals import mark_used
from podweave.rtl.parts.blocks import Block, place
from podweave.rtl.pod.pod import Pod
from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import ConfigError
from podweave.spec.descriptors import DescriptorKind, PrefetchError, descriptor_layout, loadable, memory_stride
from podweave.spec.errors import BankError, NetworkId, NodeErrors, PodError, PostError, network_error_layout
from podweave.spec.jobs import (
    Accumulate,
    Reduce,
    load_job_layout,
    post_job_layout,
    post_parameters_layout,
    store_layout,
    stream_job_layout,
)
from podweave.spec.jobs import Emit as EmitCode
from podweave.spec.links import LinkError, flit_user_layout, head_layout, receive_job_layout, send_job_layout
from podweave.spec.load_port import Counter as CounterCode
from podweave.spec.load_port import HostSelect, host_widths
from podweave.spec.register_map import RegisterMap
from podweave.spec.register_types import ErrorSource, NodeWords, Refusal, Ring
from tests.rtl.accelerator.designs import ACCELERATORS, CHIP, CHIPS, POD4, PODS, bodies, emitted


def ports_of(body: str) -> dict[str, tuple[str, int]]:
    lines = re.findall(r"^ *(input|output)(?: wire| reg)?(?: signed)?(?: \[(\d+):0\])? (\w+)[;,]?$", body, re.MULTILINE)
    return {name: (direction, int(high or 0) + 1) for direction, high, name in lines}


def digest(design: Emitted) -> str:
    text = design.verilog + design.control + json.dumps(design.sidecar)
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.more
def test_same_configuration_gives_the_same_bytes_in_any_process() -> None:
    code = (
        "from podweave.spec.presets import load_config; from podweave.rtl.accelerator.emit import emit; import hashlib, json;"
        "d = emit(load_config('pod4'));"
        "print(hashlib.sha256((d.verilog + d.control + json.dumps(d.sidecar)).encode()).hexdigest())"
    )
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "4242" else "4242"
    env = os.environ | {"PYTHONHASHSEED": seed}
    root = Path(__file__).resolve().parents[3]
    other = subprocess.run([sys.executable, "-c", code], cwd=root, env=env, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(emit(POD4))
    assert digest(emitted("odd")) != digest(emitted("pod4"))


@pytest.mark.campaign
def test_number_of_modules_does_not_depend_on_rows_and_columns() -> None:
    counts = set()
    for rows, cols in ((2, 2), (4, 12), (16, 8)):
        design = emit(POD4.replace(rows=rows, cols=cols, group_rows=2, group_cols=2))
        assert len(bodies(design.verilog)) == len(design.sidecar["modules"])
        counts.add(len(design.sidecar["modules"]))
    assert len(counts) == 1


def test_number_of_modules_does_not_depend_on_the_number_of_pods() -> None:
    sizes = {pods: len(emit(CHIP.replace(pods=pods, banks=pods), top="chip").sidecar["modules"]) for pods in (2, 4)}
    assert sizes[2] == sizes[4]


@pytest.mark.parametrize("name", PODS)
def test_ports_of_a_pod_are_those_of_the_verilog(name: str) -> None:
    config = PODS[name]
    design = emit_block(Pod(config))
    (body,) = bodies(design.verilog)["pod"]
    stated = {port["name"]: (port["direction"], port["width"]) for port in design.sidecar["ports"]}
    assert design.top == design.sidecar["top"] == "pod"
    assert len(stated) == len(design.sidecar["ports"])
    assert ports_of(body) == stated
    # A few by hand, so that the two cannot be wrong together.
    assert stated["clk"] == stated["rst"] == ("input", 1)
    assert stated["x_data"] == ("input", 8 * config.array.rows)
    assert stated["w_data"] == ("input", 8 * config.array.cols)
    assert stated["p_data"] == ("output", config.array.psum_width * config.array.cols)
    assert stated["errors"] == ("output", 13)
    assert stated["error_time"] == ("output", config.pod.time_width)


@pytest.mark.parametrize("name", PODS)
def test_modules_and_instances_of_a_pod_are_those_of_the_verilog(name: str) -> None:
    config = PODS[name]
    design = emit_block(Pod(config))
    defined, modules = bodies(design.verilog), design.sidecar["modules"]
    assert {module: len(texts) for module, texts in defined.items()} == dict.fromkeys(modules, 1)
    for module, described in modules.items():
        (body,) = defined[module]
        placed = Counter(kind for kind in re.findall(r"^  (\w+) \w+ \($", body, re.MULTILINE) if kind in modules)
        assert described["instances"] == dict(placed)
    kinds: dict[str, list[str]] = {}
    for module, described in modules.items():
        kinds.setdefault(described["kind"], []).append(module)
    (row,), (group,), (array,) = kinds["array_row"], kinds["array_group"], kinds["array"]
    assert modules[array]["instances"] == {row: config.array.row_groups}
    assert modules[row]["instances"] == {group: config.array.col_groups}
    assert modules[group]["instances"] == {kinds["group_column"][0]: config.array.group_cols}
    bits = config.pod.accumulator_rows * config.array.psum_width * config.array.cols
    assert sum(described["sram_bits"] for described in modules.values()) == bits


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.campaign] * (name == "32 pods")) for name in CHIPS])
def test_sidecar_of_a_chip(name: str) -> None:
    design, config = emitted(name), CHIPS[name]
    sidecar, modules = design.sidecar, design.sidecar["modules"]
    assert design.top == sidecar["top"] == "chip"
    assert sidecar == json.loads(json.dumps(sidecar))
    assert ChipConfig.from_dict(sidecar["config"]) == config
    defined = bodies(design.verilog)
    assert {module: len(texts) for module, texts in defined.items()} == dict.fromkeys(modules, 1)
    stated = {port["name"]: (port["direction"], port["width"]) for port in sidecar["ports"]}
    assert ports_of(defined["chip"][0]) == stated
    assert stated["busy"] == stated["error"] == ("output", 1)
    bits = config.prefetch.data_width if config.prefetch else 64
    assert stated["host_read_data"] == ("output", config.managers * bits)
    assert stated["host_valid"] == ("input", config.managers)
    for module, described in modules.items():
        # An instance called table is escaped.
        found = re.findall(r"^  (\w+) \\?\w+ +\($", defined[module][0], re.MULTILINE)
        placed = Counter(kind for kind in found if kind in modules)
        assert described["instances"] == dict(placed)
    kinds = Counter(described["kind"] for described in modules.values())
    assert kinds["node"] == kinds["pod"] == kinds["post_processor"] == kinds["chip_root"] == kinds["load_tree"] == 1
    (node,) = (module for module, described in modules.items() if described["kind"] == "node")
    assert modules["chip"]["instances"][node] == config.pods
    assert modules["chip"]["instances"]["load_tree"] == config.managers
    assert 'no_inline -module "pod"' not in design.control
    assert f'no_inline -module "{node}"' in design.control


@pytest.mark.parametrize("name", CHIPS)
def test_sidecar_of_a_chip_has_layouts_codes_and_latencies(name: str) -> None:
    sidecar, config = emitted(name).sidecar, CHIPS[name]
    jobs = [load_job_layout(config), stream_job_layout(config), post_job_layout(config)]
    layouts = [*jobs, post_parameters_layout(config), *map(store_layout, jobs), network_error_layout(config)]
    described = [(layout["name"], layout["width"], [f["name"] for f in layout["fields"]]) for layout in sidecar["layouts"]]
    assert described == [(layout.name, layout.width, [f.name for f in layout.fields]) for layout in layouts]
    codes = (Accumulate, EmitCode, Reduce, HostSelect, CounterCode, NodeErrors, NetworkId)
    assert sidecar["codes"] == {kind.__name__: {c.name: c.value for c in kind} for kind in codes}
    for key, errors in (("errors", PodError), ("post_errors", PostError), ("bank_errors", BankError)):
        assert sidecar[key] == {error.name: error.value for error in errors}
    assert sidecar["latency"]["network"] == config.network_latency
    assert sidecar["latency"]["memory"] == 2 * config.network_latency + 1
    assert sidecar["latency"]["request_to_write"] == config.write_latency
    assert sidecar["latency"]["epoch_overhead"] == config.epoch_overhead
    assert (sidecar["host"]["ports"], sidecar["host"]["beat_width"]) == (config.managers, config.host_bits)
    words = {select.name: widths for select, widths in host_widths(config).items()}
    assert {name: (w["address_width"], w["data_width"]) for name, w in sidecar["host"]["words"].items()} == words


LARGE = ("accelerator", "4 managers of 512 bits")
"""What the others have, in more bits or of more managers."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.campaign] * (name in LARGE)) for name in ACCELERATORS])
def test_sidecar_of_an_accelerator(name: str) -> None:
    design, config = emitted(name), ACCELERATORS[name]
    sidecar, prefetch = design.sidecar, config.prefetch
    assert prefetch is not None
    assert design.top == sidecar["top"] == "accelerator"
    assert sidecar == json.loads(json.dumps(sidecar))
    defined = bodies(design.verilog)
    assert {module: len(texts) for module, texts in defined.items()} == dict.fromkeys(sidecar["modules"], 1)
    stated = {port["name"]: (port["direction"], port["width"]) for port in sidecar["ports"]}
    assert ports_of(defined["accelerator"][0]) == stated
    instances = sidecar["modules"]["accelerator"]["instances"]
    # Flits of 64 bits, a buffer of 4 P words of 2 flits.
    links = {"collective_engine": 1, "link_port_64x8": 1, "stray_jobs": 1} if config.links else {}
    assert instances == {"chip": 1, "control": 1, "prefetch_engine": prefetch.managers, **links}
    assert ('no_inline -module "prefetch_engine"' in design.control) == (prefetch.managers > 1)

    axi = sidecar["axi"]
    assert stated[f"{axi['subordinate']['prefix']}wdata"] == ("input", axi["subordinate"]["data_width"])
    assert stated[f"{axi['subordinate']['prefix']}araddr"] == ("input", axi["subordinate"]["address_width"])
    assert len(axi["managers"]) == prefetch.managers
    for manager in axi["managers"]:
        prefix = manager["prefix"]
        assert stated[f"{prefix}araddr"] == ("output", manager["address_width"]) == ("output", prefetch.address_width)
        assert stated[f"{prefix}rdata"] == ("input", manager["data_width"]) == ("input", prefetch.data_width)
        assert stated[f"{prefix}wstrb"] == ("output", prefetch.data_width // 8)
        assert stated[f"{prefix}bid"] == ("input", manager["id_width"])
    assert [node for manager in axi["managers"] for node in range(manager["nodes"][0], manager["nodes"][1] + 1)] == [
        *range(config.pods)
    ]

    (descriptor,) = (layout for layout in sidecar["layouts"] if layout["name"] == "descriptor")
    assert (descriptor["name"], descriptor["width"]) == ("descriptor", 512)
    assert [f["name"] for f in descriptor["fields"]] == [f.name for f in descriptor_layout().fields]
    for kind in (DescriptorKind, PrefetchError, Refusal, ErrorSource, NodeWords, Ring):
        assert sidecar["codes"][kind.__name__] == {code.name: code.value for code in kind}
    assert sidecar["memory_strides"] == {s.name: memory_stride(config, s) for s in loadable(config)}
    registers = {register["name"]: register for register in sidecar["registers"]["list"]}
    assert registers.keys() == RegisterMap(config).registers.keys()
    for name_, register in RegisterMap(config).registers.items():
        described = registers[name_]
        assert (described["offset"], described["words"], described["managers"]) == (
            register.offset,
            register.words,
            register.managers,
        )
        assert [(f["name"], f["low"], f["width"]) for f in described["fields"]] == [
            (f.name, f.low, f.width) for f in register.fields
        ]
        assert {f["codes"] for f in described["fields"]} <= {None, *sidecar["codes"]}
    assert registers["STATUS"]["fields"][5]["codes"] == "Refusal"


def test_sidecar_of_links() -> None:
    config, sidecar = ACCELERATORS["links"], emitted("links").sidecar
    ports = {port["name"]: (port["direction"], port["width"]) for port in sidecar["ports"]}
    links = sidecar["links"]
    assert (links["flit_bits"], links["buffer_words"], links["jobs"]) == (64, 4, 20)
    # A P word has 4 x 32 bits, an X word 4 x 8.
    assert links["word_flits"] == {"P": 2, "X": 1}
    for way, flows in (("transmit", ("output", "input")), ("receive", ("input", "output"))):
        prefix, (flit, back) = links[way]["prefix"], flows
        assert [ports[f"{prefix}{name}"] for name in ("data", "user", "crc")] == [(flit, 64), (flit, 6), (flit, 16)]
        assert (ports[f"{prefix}valid"], ports[f"{prefix}credit"], ports[f"{prefix}up"]) == ((flit, 1), (back, 1), ("input", 1))
    described = {layout["name"]: layout["width"] for layout in sidecar["layouts"]}
    for layout in (send_job_layout(config), receive_job_layout(config), head_layout(), flit_user_layout()):
        assert described[layout.name] == layout.width
    assert sidecar["codes"]["LinkError"] == {error.name: error.value for error in LinkError}
    assert sidecar["latency"]["link_read"] == config.link_read_latency
    assert "links" not in emitted("accelerator").sidecar
    assert not [port["name"] for port in emitted("accelerator").sidecar["ports"] if "link" in port["name"]]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.campaign] * (name == LARGE[1])) for name in (*PODS, *CHIPS, *ACCELERATORS)]
)
def test_no_initial_values(name: str) -> None:
    verilog = emitted(name).verilog
    assert "initial" not in verilog
    assert re.search(r"^ *(?:output )?reg\b[^;]*=", verilog, re.MULTILINE) is None
    assert "Generated by" not in verilog


class Echo(Block):
    """``o`` is ``i``; a parameter makes its boundary lie."""

    kind = "echo"

    def __init__(self, lie: str = "") -> None:
        self.lie = lie
        super().__init__({"i": In(8), "unused": In(3), "o": Out(8)})
        if lie == "width":
            self.o = Signal(4)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += self.o.eq(self.i)
        if self.lie == "domain":
            toggle = Signal()
            m.d.fast += toggle.eq(~toggle)
            m.d.comb += self.o[0].eq(toggle)
        return m


class Pair(Block):
    kind = "pair"

    def __init__(self) -> None:
        super().__init__({"i": In(8), "o": Out(8)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        first, second = place(m, "first", Echo()), place(m, "second", Echo())
        m.d.comb += [first["i"].eq(self.i), second["i"].eq(first["o"]), self.o.eq(second["o"])]
        return m


def test_block_keeps_the_inputs_that_nothing_reads() -> None:
    design = emit_block(Pair())
    boundary = {"clk": ("input", 1), "rst": ("input", 1), "i": ("input", 8), "unused": ("input", 3), "o": ("output", 8)}
    assert ports_of(bodies(design.verilog)["echo"][0]) == boundary
    assert design.sidecar["modules"]["pair"]["instances"] == {"echo": 2}
    assert 'no_inline -module "echo"' in design.control
    assert 'no_inline -module "pair"' not in design.control


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        ("width", r"^echo: emitted port o \(4, 'output'\) is not in its signature$"),
        ("domain", r"^echo: emitted port fast_clk \(1, 'input'\) is not in its signature$"),
    ],
)
def test_boundary_that_lies_is_refused(lie: str, sentence: str) -> None:
    with pytest.raises(RuntimeError, match=sentence):
        emit_block(Echo(lie))


def test_place_outside_of_emission_is_refused() -> None:
    block, m = Echo(), Module()
    # Neither will ever be elaborated, of which Amaranth would warn.
    mark_used(block), mark_used(m)
    with pytest.raises(
        RuntimeError, match=r"^echo was placed outside of emission: convert the design with rtl\.accelerator\.emit$"
    ):
        place(m, "echo", block)
    emit_block(Pair())
    with pytest.raises(RuntimeError, match="placed outside of emission"):
        place(m, "echo", block)


@pytest.mark.campaign
def test_prefix_is_in_all_names_of_modules_and_files_and_in_nothing_else(tmp_path: Path) -> None:
    for config, top in ((POD4, "chip"), (CHIP, "accelerator")):
        plain, prefixed = emit(config, top=top), emit(config, top=top, prefix="left_npu2")
        assert prefixed.top == prefixed.sidecar["top"] == f"left_npu2_{top}"
        paths = prefixed.write(tmp_path / top)
        assert [path.name for path in paths] == [f"left_npu2_{top}{suffix}" for suffix in (".v", ".vlt", ".json")]
        assert set(bodies(prefixed.verilog)) == {f"left_npu2_{name}" for name in bodies(plain.verilog)}
        assert set(bodies(prefixed.verilog)) == set(prefixed.sidecar["modules"])
        # Without the prefix, all is as it was.
        for name in ("verilog", "control"):
            lines = getattr(prefixed, name).replace("left_npu2_", "").splitlines()
            # Yosys and we sort modules by name; nothing in their bodies changes.
            assert sorted(lines) == sorted(getattr(plain, name).splitlines())
        assert json.loads(json.dumps(prefixed.sidecar).replace("left_npu2_", "")) == plain.sidecar
    # It is that of one emission only.
    assert emit(POD4).top == "accelerator"


@pytest.mark.parametrize("prefix", ["2x4", "my-chip", "my chip", "_x", "x_", "Npu", "näh", "a.b", "module", "sizeof", "logic"])
def test_bad_prefix_is_refused_in_a_sentence(prefix: str) -> None:
    rule = (
        f"a prefix must not be a keyword of Verilog or C, got '{prefix}'"
        if prefix in ("module", "sizeof", "logic")
        else "a prefix is lower-case letters, digits and underscores, begins with a letter and does not end with an underscore, "
        f"got '{prefix}'"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(rule)}$"):
        emit(POD4, prefix=prefix)


_FORKED = """
import os, sys
from podweave.rtl.accelerator.emit import converted
design = "module \\\\copy\\n  wire width 4 input 1 \\\\a\\n  wire width 4 output 2 \\\\y\\n  connect \\\\y \\\\a\\nend\\n"
text, _ = converted(design)["copy"]
reader, writer = os.pipe()
if not os.fork():
    os.write(writer, converted(design)["copy"][0].encode())
    try:
        converted("module")
    except RuntimeError as error:
        os.write(writer, str(error).encode())
    os._exit(0)
os.close(writer)
with os.fdopen(reader) as pipe:
    found = pipe.read()
assert "module copy" in text and found.startswith(text)
print(found.removeprefix(text).splitlines()[0])
"""


def test_emission_in_a_process_that_is_forked_behind_one() -> None:
    """As of a pool of processes, which on Linux are forked by default. What Yosys says there is told, too."""
    done = subprocess.run([sys.executable, "-c", _FORKED], capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert done.stderr == ""
    assert done.stdout == "Yosys could not convert the design:\n"
