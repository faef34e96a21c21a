"""What is emitted is lint clean in Verilators old and new, and its waivers are about nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from podweave.rtl.accelerator.emit import LINT_WAIVERS, emit
from tests.rtl.accelerator.designs import ACCELERATORS, CHIP, CHIPS, PODS, emitted
from tests.verilator_lint import VERILATORS, lint

LARGE = ("32 pods", "4 managers of 512 bits", "32 bits of address")
# The names of warnings in verilator_bin of Debian 12 (verilator 5.006-3) that it takes in `lint_off -rule NAME`; of all others it
# says "Unknown Error Code". WIDTHEXPAND and WIDTHTRUNC came later; newer ones take WIDTH for both.
KNOWN_TO_5_006 = """
    ALWCOMBORDER ASSIGNDLY ASSIGNIN BADSTDPRAGMA BLKANDNBLK BLKLOOPINIT BLKSEQ BSSPACE CASEINCOMPLETE CASEOVERLAP CASEWITHX CASEX
    CASTCONST CDCRSTLOGIC CLKDATA CMPCONST COLONPLUS COMBDLY CONTASSREG DECLFILENAME DEFPARAM DEPRECATED ENCAPSULATED ENDLABEL
    ENUMVALUE EOFNEWLINE GENCLK HIERBLOCK IFDEPTH IGNOREDRETURN IMPERFECTSCH IMPLICITSTATIC IMPORTSTAR IMPURE INCABSPATH
    INFINITELOOP INITIALDLY INSECURE LATCH LITENDIAN MINTYPMAXDLY MODDUP MULTIDRIVEN MULTITOP NEEDTIMINGOPT NOLATCH NOTIMING
    NULLPORT PINCONNECTEMPTY PINMISSING PINNOCONNECT PINNOTFOUND PKGNODECL PORTSHORT PROCASSWIRE PROFOUTOFDATE PROTECTED RANDC
    REALCVT REDEFMACRO RISEFALLDLY SELRANGE SHORTREAL SPLITVAR STMTDLY SYMRSVDWORD SYNCASYNCNET TASKNSVAR TICKCOUNT TIMESCALEMOD
    UNDRIVEN UNOPT UNOPTFLAT UNOPTTHREADS UNPACKED UNSIGNED UNSUPPORTED UNUSED UNUSEDGENVAR UNUSEDPARAM UNUSEDSIGNAL USERERROR
    USERFATAL USERINFO USERWARN VARHIDDEN WAITCONST WIDTH WIDTHCONCAT ZERODLY
"""


def test_rules_are_known_to_old_verilators() -> None:
    known = set(KNOWN_TO_5_006.split())
    assert set(LINT_WAIVERS) <= known
    assert not {"WIDTHEXPAND", "WIDTHTRUNC"} & known


def test_control_file_is_about_its_own_file_only() -> None:
    design = emit(CHIP, prefix="mine")
    head, *lines = [line for line in design.control.splitlines() if not line.startswith("//")]
    assert head == "`verilator_config"
    waived = [match.groups() for line in lines for match in [re.fullmatch(r'lint_off -rule (\w+) -file "(.*)"', line)] if match]
    assert waived == [(rule, path) for rule in LINT_WAIVERS for path in ("mine_accelerator.v", "*/mine_accelerator.v")]
    others = [line for line in lines if not line.startswith("lint_off")]
    assert others
    assert all(re.fullmatch(r'no_inline -module "mine_\w+"', line) for line in others)


@pytest.mark.parametrize("which", VERILATORS)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.campaign] * (name in LARGE)) for name in (*PODS, *CHIPS, *ACCELERATORS)],
)
def test_verilator_finds_nothing_to_warn_of(tmp_path: Path, name: str, which: str) -> None:
    top = emitted(name).top
    emitted(name).write(tmp_path / "new" / "folder")
    assert lint(which, tmp_path / "new" / "folder", [f"{top}.vlt", f"{top}.v"], top) == (0, "")


@pytest.mark.parametrize("name", ["links", pytest.param("4 managers of 512 bits", marks=pytest.mark.campaign)])
def test_no_two_functions_have_one_name(name: str) -> None:
    """Verilator takes one of a module for one that is hidden, if a module around it has the same name."""
    functions = re.findall(r"^ *function +(?:\[.*?\] +)?(\w+);", emitted(name).verilog, re.MULTILINE)
    assert len(functions) > 10
    assert len(functions) == len(set(functions))


@pytest.mark.parametrize("which", VERILATORS)
def test_verilator_finds_a_planted_fault(tmp_path: Path, which: str) -> None:
    verilog, *_ = emitted("pod4").write(tmp_path)
    text = verilog.read_text()
    assert ".next_code(" in text
    verilog.write_text(re.sub(r"^ *\.next_code\(.*\n", "", text, flags=re.MULTILINE))
    code, warnings = lint(which, tmp_path, ["chip.vlt", "chip.v"], "chip")
    assert code != 0
    assert "PINMISSING" in warnings


@pytest.mark.parametrize("which", VERILATORS)
def test_every_waiver_is_needed(tmp_path: Path, which: str) -> None:
    """Without one of the rules, Verilator warns of it in one of a few designs."""
    found = set()
    for name in ("full_fields", "accelerator"):
        top = emitted(name).top
        emitted(name).write(tmp_path)
        _, warnings = lint(which, tmp_path, [f"{top}.v"], top)
        found |= set(re.findall(r"^%Warning-([A-Z]+):", warnings, re.MULTILINE))
    assert {re.sub("WIDTH.*", "WIDTH", rule) for rule in found} == set(LINT_WAIVERS)
