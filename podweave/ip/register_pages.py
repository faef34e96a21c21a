"""The registers of an accelerator as a page for people and as a C header; both from `spec.register_map`."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import replace

from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import PrefetchConfig
from podweave.spec.descriptors import DescriptorKind, PrefetchError
from podweave.spec.errors import BankError, NetworkId, NodeErrors, PodError, PostError
from podweave.spec.links import CollectiveKind, FlitKind, LinkError
from podweave.spec.links_config import LinksConfig
from podweave.spec.load_port import Counter, HostSelect
from podweave.spec.presets import load_config
from podweave.spec.register_map import Access, ErrorSource, NodeWords, Refusal, Register, RegisterField, RegisterMap, Ring
from podweave.spec.register_types import MANAGER_BASE, MANAGER_PITCH

_ENUMERATIONS: dict[str, type[enum.IntEnum]] = {
    "refusal": Refusal,
    "error_source": ErrorSource,
    "node_words": NodeWords,
    "ring": Ring,
    "prefetch_error": PrefetchError,
    "network": NetworkId,
    "counter": Counter,
    "node_errors": NodeErrors,
    "pod_error_bit": PodError,
    "post_error_bit": PostError,
    "bank_error_bit": BankError,
    "descriptor_kind": DescriptorKind,
    "select": HostSelect,
}

_LINK_ENUMERATIONS: dict[str, type[enum.IntEnum]] = {
    "link_error": LinkError,
    "collective_kind": CollectiveKind,
    "flit_kind": FlitKind,
}

_NODE_CODES: dict[str, type[enum.IntEnum]] = {
    "COUNTERS": Counter,
    "ERRORS": NodeErrors,
    "POD": PodError,
    "POST": PostError,
    "BANK": BankError,
}

_RULES = """\
All registers are 32 bits wide and little endian, behind one AXI4-Lite subordinate (`s_axil_*`) with addresses of 12 bits (13 with
64 managers). Offsets are in bytes and the same in all configurations. A register of more than 32 bits is two of them, `_LO` and
`_HI`, four bytes apart; of read-only ones, reading `_LO` takes `_HI` with it, so read that next. Bits that are not listed read as
0. Writes honour byte strobes. SLVERR answers an address without a register, a write to a read-only register, and one to a *locked*
register during a run.

| access | meaning |
|---|---|
| ro | read only |
| rw | reads as written |
| rw, locked | the same; not to be written while STATUS.BUSY is 1 |
| w1c | events set bits, writing a 1 clears them |
| wo | a write acts with its value; reads as 0 |
| pulse | each bit written as 1 acts once; reads as 0 |
"""

_USE = """\
## A run

1. Once: MEMORY_BYTES, and for each manager the base and size of its two rings.
2. Write the rings' descriptors and the data into memory, then the number of descriptors into DEMAND_TAIL and PREFETCH_TAIL of each
   manager. Each ring has, for every tag 0 to EPOCHS, a descriptor that is the last one of that tag.
3. EPOCHS, OPTIONS, CAP, IRQ_ENABLE, the BASE registers; then CONTROL.START. STATUS.REFUSED tells of a start that was not accepted,
   STATUS.REASON why.
4. Epoch e begins when tags 0 to e of all rings are complete. Tails may grow meanwhile.
5. `irq` with IRQ_PENDING.DONE, or STATUS.DONE: the run is over, and all that it stored is in memory. Clear the event by writing it
   back.
6. With STATUS.ERROR, read ERROR_SOURCE, then ERROR of each manager, NETWORK_ERROR, or the errors of all nodes through NODE_SELECT
   and NODE_DATA. No epoch begins after an error; the one that is on runs to its end. Registers keep what they say until the
   next START, which resets chip and engines first.

ABORT ends a run in the same way: nothing new begins, transfers that are under way end. Neither waits for software.

The performance counters count from START on and hold still when the run is over. *Manager-cycles* are summed over managers: 2
managers that are busy in one cycle count 2.
"""

_USE_OF_PASSES = """\

## Passes

A run goes over its EPOCHS epochs PASSES times, each time with other inputs and outputs. Of each ring, the descriptors from
BODY on to before BODY_END, in `DEMAND_` and `PREFETCH_`, are gone over PASSES - 1 times, between those before and those
behind them: what comes before is the first pass, what comes behind is what the last epoch of the last one leaves. A
descriptor with `turns` adds EPOCHS to tag and `after`, and PASS_STRIDE to the address of descriptors with `moves`, of all
that come behind it in its ring: the last one of the body has it. Tails count all descriptors that are gone over, a body as
often as it is. Behind each pass the program stores are rewound, so that its jobs stand where those of the first did;
EPOCHS_DONE counts on. With PASSES 1, as at reset, the body is left out.
"""

_USE_OF_LINKS = """\

## Chips in a ring

Epochs of a run may be collectives, in which words go to the next chip and come from the one before. The first is FIRST_COLLECTIVE;
the jobs of each name the next. LINK_RUN is the same in all chips of a ring, and another number than in the run before. Chips may be
started in any order: one that comes to a collective waits for its neighbours, LINK_TIMEOUT cycles at most. After an error or
ABORT the next chip is told, and ends with NEIGHBOUR; LINK_ERROR says what went wrong, and in which collective.

`rst` of one chip may come at any time, in a run too. Its registers are as at power-up, its links are silent, and it tells nobody.
Each of the others ends with TIMEOUT in the collective that it is in, or comes to, or with NEIGHBOUR when another has; one that is
behind its last collective ends as ever. With LINK_TIMEOUT 0 they wait until ABORT. When all are idle, set up the chip again (all
registers; memory may have part of what it was storing), and start the next run with a LINK_RUN that differs from that of the run
before. A chip that is reset after a neighbour has started takes no part in that run: the credits that it was given are gone.
"""

_TABLE = ("| offset | register | access | reset | bits | value | |", "|---|---|---|---|---|---|---|")


def register_page(config: ChipConfig, *, values: bool = True) -> str:
    """Markdown: all registers with offsets, access, fields and codes. ``values``: with those of constant registers."""
    registers = RegisterMap(config).registers.values()
    of_managers = [register for register in registers if register.managers]
    codes = {field.codes.__name__: field.codes for register in registers for field in register.fields if field.codes}
    lines = [
        *("# Registers", "", _RULES),
        *_TABLE,
        *(_row(register, values) for register in registers if not register.managers),
        *("", "## Of each manager", "", f"At {MANAGER_BASE:#05x} + {MANAGER_PITCH:#x} * manager + offset.", ""),
        *_TABLE,
        *(_row(register, values) for register in of_managers),
        *("", "## Fields", "", "| register | bits | field | |", "|---|---|---|---|"),
        *(row for register in registers for row in _field_rows(register, values)),
        *("", "## Codes", "", "| | |", "|---|---|"),
        *(f"| {name} | {_codes(kind)} |" for name, kind in codes.items()),
        *("", "INDEX of NODE_SELECT, and bits of the errors of a node:", "", "| | |", "|---|---|"),
        *(f"| {name} | {_codes(kind)} |" for name, kind in _NODE_CODES.items()),
        *("", _USE + (_USE_OF_PASSES if config.passes else "") + (_USE_OF_LINKS if config.links else "")),
    ]
    return "\n".join(lines)


def general_page() -> str:
    """The page of the documentation: widths as in a chip of 4 pods, without the values of one configuration."""
    config = replace(load_config("chip4x16"), prefetch=PrefetchConfig(base_registers=2, pass_bits=16), links=LinksConfig())
    page = register_page(config, values=False)
    note = (
        "Bits of addresses and of NETWORK_ERROR are those of 4 pods and 40 bits of address, and there are two BASE registers of\n"
        "up to 15; PASSES, PASS_STRIDE, those whose names end in BODY and BODY_END, and the refusal PASSES are there only\n"
        "with pass_bits; LINKS, LINK_JOBS, what stands from 0x080 to 0x08f and from 0x200 to 0x227, and the source LINK only\n"
        "with links. `podweave ip` writes this page, and a C header, for a configuration."
    )
    return page.replace("# Registers\n", f"# Registers\n\n{note}\n", 1)


def _codes(kind: type[enum.IntEnum]) -> str:
    return ", ".join(f"{code.value} {code.name}" for code in kind)


def _row(register: Register, values: bool) -> str:
    access = register.access.value + (", locked" if register.locked else "")
    base = MANAGER_BASE if register.managers else 0
    offsets = " ".join(f"{register.offset - base + 4 * word:#05x}" for word in range(register.words))
    whole = register.fields[0] if register.fields[0].name == "VALUE" else None
    bits, what = (whole.width, whole.doc) if whole else ("", "see below")
    reset = f"{register.reset:#x}"
    if register.access is Access.RO:
        reset = (reset if values else "constant") if register.constant else ""
    return f"| {offsets} | {' '.join(register.word_names)} | {access} | {reset} | {bits} | {what} | {register.doc} |"


def _field_rows(register: Register, values: bool) -> Iterator[str]:
    for field in register.fields:
        if field.name == "VALUE":
            continue
        what = field.doc + (f" (`{field.codes.__name__}`)" if field.codes else "")
        if register.constant and values:
            what += f": {field.value}"
        bits = f"{field.low + field.width - 1}:{field.low}" if field.width > 1 else str(field.low)
        yield f"| {register.name} | {bits} | {field.name} | {what} |"


# NAME stands for what all names begin with.
_HELPERS = """\
static inline uint32_t NAME_read(const volatile void *base, uint32_t offset)
{
    return *(const volatile uint32_t *)((const volatile char *)base + offset);
}

static inline void NAME_write(volatile void *base, uint32_t offset, uint32_t value)
{
    *(volatile uint32_t *)((volatile char *)base + offset) = value;
}

/* Registers of two words, by the offset of their _LO. The low word is read first: it takes the high one with it. */
static inline uint64_t NAME_read64(const volatile void *base, uint32_t offset)
{
    uint32_t low = NAME_read(base, offset);
    return (uint64_t)NAME_read(base, offset + 4) << 32 | low;
}

static inline void NAME_write64(volatile void *base, uint32_t offset, uint64_t value)
{
    NAME_write(base, offset, (uint32_t)value);
    NAME_write(base, offset + 4, (uint32_t)(value >> 32));
}
"""


def c_header(config: ChipConfig, prefix: str) -> str:
    """C99: offsets of all registers, masks and shifts of their fields, codes, and the four ways to access them.

    All names begin with ``podweave_PREFIX_``, those of macros in capitals.
    """
    name, macro = f"podweave_{prefix}", f"PODWEAVE_{prefix.upper()}"
    guard = f"{macro}_H"
    lines = [f"/* Registers of {config.name}: generated by podweave. Do not edit. */", f"#ifndef {guard}", f"#define {guard}", ""]
    lines += ["#include <stdint.h>", ""]
    for register in RegisterMap(config).registers.values():
        lines += [f"/* {_comment(register.doc)} */"]
        for word, word_name in enumerate(register.word_names):
            offset = f"{register.offset + 4 * word:#05x}u"
            if register.managers:
                lines.append(f"#define {macro}_{word_name}(manager) ({offset} + {MANAGER_PITCH:#x}u * (manager))")
            else:
                lines.append(f"#define {macro}_{word_name} {offset}")
        for field in register.fields:
            if field.name != "VALUE":
                lines += _field_macros(f"{macro}_{register.name}_{field.name}", field)
            if register.constant:
                suffix = "" if field.name == "VALUE" else f"_{field.name}"
                lines.append(f"#define {macro}_{register.name}{suffix}_VALUE {field.value:#x}u")
        lines.append("")
    for codes, kind in (_ENUMERATIONS | (_LINK_ENUMERATIONS if config.links else {})).items():
        members = ",\n".join(f"    {macro}_{codes.upper()}_{code.name} = {code.value}" for code in kind)
        lines += [f"enum {name}_{codes} {{\n{members}\n}};", ""]
    return "\n".join([*lines, _HELPERS.replace("NAME", name), f"#endif /* {guard} */", ""])


def _field_macros(name: str, field: RegisterField) -> list[str]:
    return [f"#define {name}_SHIFT {field.low}", f"#define {name}_MASK {field.mask:#010x}u"]


def _comment(text: str) -> str:
    return text.replace("`", "").replace("*/", "* /")
