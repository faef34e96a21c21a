"""All registers of an accelerator, by their offsets. These are the same in all configurations.

Base registers are there as many as a configuration has, registers of passes only with ``pass_bits``, registers and counters of
links only with links.
"""

from __future__ import annotations

import enum
import zlib

from .config import ChipConfig
from .descriptors import TAG_WIDTH, PrefetchError
from .errors import NetworkId, network_error_layout
from .links import ID_WIDTH, NO_COLLECTIVE, RUN_WIDTH, LinkError
from .register_types import (
    COUNTER_WIDTH,
    MANAGER_BASE,
    MAX_EPOCHS,
    WORD_WIDTH,
    Access,
    ErrorSource,
    NodeWords,
    Refusal,
    Register,
    RegisterField,
    Ring,
    manager_width,
)

IDENTITY = int.from_bytes(b"PodW", "little")
VERSION = (2, 0)
COUNTER_BASE = 0x100
LINK_COUNTER_BASE = 0x200
"""Counters of links stand here: those that all accelerators have may become more."""
BASE_REGISTERS = 0x300
"""BASE1 stands here, and the others behind it."""

Fields = tuple[RegisterField, ...]


def register_list(config: ChipConfig) -> tuple[Register, ...]:
    """All registers, by rising offset; those that each manager has as of manager 0."""
    assert config.prefetch is not None
    links = (*_link_facts(config), *_links()) if config.links else ()
    run = (*_run(config), *(_passes(config) if config.passes else ()))
    found = (*_facts(config), *run, *_results(config), *links, *_counters(config), *_bases(config), *_of_managers(config))
    return tuple(sorted(found, key=lambda register: register.offset))


def _field(name: str, low: int, width: int, doc: str, value: int = 0, codes: type[enum.IntEnum] | None = None) -> RegisterField:
    return RegisterField(name, low, width, doc, value, codes)


def _whole(doc: str, width: int = WORD_WIDTH, value: int = 0) -> Fields:
    return (RegisterField("VALUE", 0, width, doc, value),)


def _facts(config: ChipConfig) -> list[Register]:
    array, prefetch = config.array, config.prefetch
    assert prefetch is not None

    def fact(name: str, offset: int, fields: Fields, doc: str) -> Register:
        return Register(name, offset, Access.RO, fields, doc, constant=True)

    version = (
        _field("MINOR", 0, 16, "grows when registers are added", VERSION[1]),
        _field("MAJOR", 16, 16, "grows when a register changes its meaning", VERSION[0]),
    )
    chip = (
        _field("PODS", 0, 16, "pods, and banks of each kind", config.pods),
        _field("MANAGERS", 16, 8, "AXI4 managers; each serves PODS / MANAGERS nodes, side by side", prefetch.managers),
        *(
            _field(
                f"{name.upper()}_PLANES", 24 + 2 * i, 2, f"n: the {name.upper()} network has 2**n planes", planes.bit_length() - 1
            )
            for i, (name, planes) in enumerate(config.memory.planes.items())
        ),
    )
    size = (
        _field("ROWS", 0, 16, "activations of a word", array.rows),
        _field("COLS", 16, 16, "weights and partial sums of a word", array.cols),
    )
    bus = (
        _field("DATA_WIDTH", 0, 16, "bits of a beat", prefetch.data_width),
        _field("ADDRESS_WIDTH", 16, 8, "bits of a byte address", prefetch.address_width),
        _field("DESCRIPTORS", 24, 8, "descriptors held per ring", prefetch.descriptors),
    )
    return [
        fact("ID", 0x000, _whole("`PodW`", value=IDENTITY), "Marks an accelerator of podweave."),
        fact("VERSION", 0x004, version, "Version of this register map."),
        fact("CHIP", 0x008, chip, "Size of the chip."),
        fact("ARRAY", 0x00C, size, "Size of the array of a pod."),
        fact("BUS", 0x010, bus, "The AXI4 managers."),
        fact(
            "CONFIG_HASH",
            0x014,
            _whole("CRC-32 of the TOML text", value=config_hash(config)),
            "Tells configurations apart: a program fits the one that it was compiled for.",
        ),
    ]


def _link_facts(config: ChipConfig) -> list[Register]:
    assert config.links is not None
    links = (
        _field("FLIT_BITS", 0, 16, "bits of a word in a flit", config.links.flit_bits),
        _field("BUFFER_WORDS", 16, 16, "words for which a receiver has room", config.links.buffer_words),
    )
    jobs = _whole("jobs", value=config.links.jobs)
    return [
        Register("LINKS", 0x018, Access.RO, links, "The links to the next chip and from the one before.", constant=True),
        Register("LINK_JOBS", 0x01C, Access.RO, jobs, "Room of the stores SEND_STORE and RECEIVE_STORE.", constant=True),
    ]


def config_hash(config: ChipConfig) -> int:
    return zlib.crc32(config.to_toml().encode())


def _run(config: ChipConfig) -> list[Register]:
    prefetch = config.prefetch
    assert prefetch is not None
    control = (
        _field("START", 0, 1, "run EPOCHS epochs"),
        _field("ABORT", 1, 1, "end the run: nothing new begins, what is under way ends; no effect without a run"),
        _field("SOFT_RESET", 2, 1, "reset chip and engines, clear STATUS and ERROR_SOURCE; other registers and memories stay"),
        _field("CLEAR", 3, 1, "clear STATUS, ERROR_SOURCE and the performance counters"),
    )
    status = (
        _field("BUSY", 0, 1, "a run or a reset is on"),
        _field("DONE", 1, 1, "the run is over"),
        _field("ERROR", 2, 1, "it had an error: see ERROR_SOURCE"),
        _field("ABORTED", 3, 1, "it was aborted"),
        _field("REFUSED", 4, 1, "a command was refused"),
        _field("REASON", 8, 3, "why the last one was", codes=Refusal),
    )
    options: Fields = (_field("PREFETCH", 0, 1, "0: descriptors of prefetch rings wait until their epoch is the next one", 1),)
    if config.links:
        options += (_field("BENEATH", 1, 1, "0: they do so while a collective is on", 1),)
    node = (
        _field("NODE", 0, 8, "node"),
        _field("WORDS", 8, 1, "what of it", codes=NodeWords),
        _field("INDEX", 16, 4, "which of these"),
    )
    cancel = (_field("TAG", 0, TAG_WIDTH, "tag"), _field("MANAGER", 16, manager_width(config.managers), "manager"))
    memory = _whole("first byte beyond the memory", min(64, prefetch.address_width + 1))
    return [
        Register(
            "CONTROL", 0x020, Access.PULSE, control, "Commands. One that is refused does nothing, and STATUS.REFUSED says so."
        ),
        Register("STATUS", 0x024, Access.RO, status, "State of the run. START, SOFT_RESET and CLEAR set all but BUSY to 0."),
        Register(
            "IRQ_ENABLE", 0x028, Access.RW, _interrupts("lets it raise `irq`"), "`irq` is high while an enabled event is pending."
        ),
        Register(
            "IRQ_PENDING", 0x02C, Access.W1C, _interrupts(), "Events that came; one that comes while it is cleared stays pending."
        ),
        Register(
            "EPOCHS",
            0x030,
            Access.RW,
            _whole("epochs"),
            f"Of a run: at most {MAX_EPOCHS}. 0 runs tag 0 of the rings only.",
            locked=True,
        ),
        Register("OPTIONS", 0x034, Access.RW, options, "May be changed during a run."),
        Register(
            "CAP",
            0x038,
            Access.RW,
            _whole("words; 0: no limit"),
            "Words that each manager may have prefetched for epochs after the next. May be changed during a run.",
        ),
        Register(
            "MEMORY_BYTES", 0x040, Access.RW, memory, "No engine reaches beyond; 0 at reset: it must be set.", words=2, locked=True
        ),
        Register(
            "CANCEL",
            0x048,
            Access.WO,
            cancel,
            "Drops what has not begun of a tag, in both rings of a manager; the run ends with the error CANCELLED.",
        ),
        Register("NODE_SELECT", 0x050, Access.RW, node, "What NODE_DATA reads."),
        Register(
            "NODE_DATA",
            0x054,
            Access.RO,
            _whole("the word"),
            "Read from the node, during a run too, as soon as its load port is free; SLVERR if there is no such node or word.",
        ),
    ]


def _passes(config: ChipConfig) -> list[Register]:
    prefetch = config.prefetch
    assert prefetch is not None
    return [
        Register(
            "PASSES",
            0x04C,
            Access.RW,
            _whole("passes", prefetch.pass_bits, value=1),
            f"How often a run goes over its EPOCHS epochs, at least 1, and at most {MAX_EPOCHS} epochs in all.",
            locked=True,
        ),
        Register(
            "PASS_STRIDE",
            0x058,
            Access.RW,
            _whole("bytes", prefetch.address_width),
            "From what a pass moves to what the next one does: see `moves` of a descriptor.",
            words=2,
            locked=True,
        ),
    ]


def _interrupts(doc: str = "") -> Fields:
    events = {
        "DONE": "a run is over, however it ended",
        "ERROR": "the first error of a run",
        "EPOCH": "an epoch ended",
        "REFUSED": "a command was refused",
    }
    return tuple(_field(name, i, 1, doc or text) for i, (name, text) in enumerate(events.items()))


def _results(config: ChipConfig) -> list[Register]:
    source = (
        _field("SOURCE", 0, source_width(config), "where it came from", codes=ErrorSource),
        _field("MANAGER", 8, manager_width(config.managers), "manager, if from an engine"),
    )
    chip = (_field("ANY", 0, 1, "a node or a network has one"), _field("NETWORK", 1, 1, "a network has one"))
    layout = network_error_layout(config)
    network = tuple(
        _field(f.name.upper(), layout.offset(f.name), f.width, f.doc, codes=NetworkId if f.name == "network" else None)
        for f in layout.fields
    )
    return [
        Register(
            "ERROR_SOURCE",
            0x060,
            Access.RO,
            source,
            "First error of the run; of several in one cycle that of the lowest manager, else of a link, else of a network.",
        ),
        Register("CHIP_ERROR", 0x064, Access.RO, chip, "Errors of the chip; they stay until SOFT_RESET or the next START."),
        Register("NETWORK_ERROR", 0x068, Access.RO, network, "The first conflict in a network."),
        Register("EPOCHS_DONE", 0x070, Access.RO, _whole("epochs", TAG_WIDTH), "Epochs of the run that ended without chip error."),
        Register("EPOCH_CYCLES", 0x074, Access.RO, _whole("cycles"), "With `run` high, of the epoch that is on, or of the last."),
        Register("TOTAL_CYCLES", 0x078, Access.RO, _whole("cycles"), "With `run` high, of all epochs of the run."),
    ]


def source_width(config: ChipConfig) -> int:
    """Bits of the code of an `ErrorSource`."""
    return 3 if config.links else 2


def _links() -> list[Register]:
    """Settings and results of links."""
    run = "Number of the run: the same in all chips of a ring, another than in the run before."
    timeout = "Cycles of a collective in which no flit is sent or received, until the run ends with TIMEOUT."
    error = (_field("CODE", 0, 4, "what", codes=LinkError), _field("ID", 16, ID_WIDTH, "collective that was on, or the next one"))
    first = _whole(f"epoch; {NO_COLLECTIVE}: none", TAG_WIDTH, NO_COLLECTIVE)
    return [
        Register("FIRST_COLLECTIVE", 0x080, Access.RW, first, "The first epoch of a run that is a collective.", locked=True),
        Register("LINK_RUN", 0x084, Access.RW, _whole("number", RUN_WIDTH), run, locked=True),
        Register("LINK_TIMEOUT", 0x088, Access.RW, _whole("cycles; 0: never", value=1 << 20), timeout, locked=True),
        Register("LINK_ERROR", 0x08C, Access.RO, error, "First error of the collective engine since START."),
    ]


def counters(config: ChipConfig) -> tuple[tuple[str, int, str], ...]:
    """Name, bits and meaning of the performance counters, in the order of their offsets."""
    return (*_run_counters(), *(_link_counters() if config.links else ()))


def _link_counters() -> tuple[tuple[str, int, str], ...]:
    return (
        ("COLLECTIVE_CYCLES", COUNTER_WIDTH, "Cycles in which a collective is on."),
        ("LINK_SENT", COUNTER_WIDTH, "Flits sent to the next chip."),
        ("LINK_RECEIVED", COUNTER_WIDTH, "Flits received from the chip before."),
        ("WAIT_NEIGHBOUR", COUNTER_WIDTH, "Cycles of collectives in which the chip before has sent nothing of them yet."),
        ("BENEATH_BEATS", COUNTER_WIDTH, "Beats of data read for prefetch rings while a collective is on."),
    )


def _run_counters() -> tuple[tuple[str, int, str], ...]:
    cycles, events = COUNTER_WIDTH, 32
    per_manager = "Manager-cycles in which"
    return (
        (
            "CYCLES",
            cycles,
            "Cycles of the run: from the one after START took effect, and after its reset if there is one, to the last with BUSY.",
        ),
        ("RUN_CYCLES", cycles, "Cycles in which an epoch of the chip is on, its filling and draining included."),
        ("WAIT_PREFETCH", cycles, "Cycles in which an epoch waits for a tag of a prefetch ring."),
        ("WAIT_DEMAND", cycles, "Cycles in which an epoch waits for tags of demand rings only."),
        ("WAIT_STORE", cycles, "Cycles after the last epoch until the tag behind it is complete."),
        ("DESCRIPTOR_BEATS", cycles, "Beats of descriptors read."),
        ("DEMAND_BEATS", cycles, "Beats of data read for demand rings."),
        ("PREFETCH_BEATS", cycles, "Beats of data read for prefetch rings."),
        ("WRITE_BEATS", cycles, "Beats of data written."),
        ("HBM_BUSY", cycles, f"{per_manager} a beat is read or written."),
        ("STALL_GATE", cycles, f"{per_manager} a descriptor waits for the epochs of its `after`."),
        ("STALL_CAP", cycles, f"{per_manager} a descriptor waits for CAP."),
        ("STALL_GAP", cycles, f"{per_manager} a descriptor waits for the end of an epoch."),
        ("STALL_BUFFER", cycles, f"{per_manager} a burst waits for room in the buffer."),
        ("STALL_BUS", cycles, f"{per_manager} a read burst waits for `arready`."),
        ("PREFETCH_HITS", events, "Epochs whose tags in prefetch rings were complete when the epoch before ended."),
        ("PREFETCH_LATE", events, "All other epochs that began; epoch 0 is always one of them."),
        (
            "PREFETCH_UNUSED",
            events,
            "After an error or abort: words that were ahead, when the last epoch ended, for epochs that never began.",
        ),
    )


def _counters(config: ChipConfig) -> list[Register]:
    found = []
    for base, those in ((COUNTER_BASE, _run_counters()), (LINK_COUNTER_BASE, _link_counters() if config.links else ())):
        offset = base
        for name, width, doc in those:
            words = -(-width // WORD_WIDTH)
            found.append(Register(name, offset, Access.RO, _whole("count", width), doc, words=words))
            offset += 4 * words
    return found


def base_register(number: int) -> str:
    """Name of a base register; numbers are from 1 on."""
    return f"BASE{number}"


def _bases(config: ChipConfig) -> list[Register]:
    prefetch = config.prefetch
    assert prefetch is not None
    return [
        Register(
            base_register(number),
            BASE_REGISTERS + 8 * (number - 1),
            Access.RW,
            _whole("bytes", prefetch.address_width),
            f"What descriptors with base register {number} add to their address, in all managers.",
            words=2,
            locked=True,
        )
        for number in range(1, prefetch.base_registers + 1)
    ]


def _of_managers(config: ChipConfig) -> list[Register]:
    prefetch = config.prefetch
    assert prefetch is not None
    found, at = [], MANAGER_BASE
    byte_address = _whole("byte address", prefetch.address_width)

    def add(name: str, access: Access, fields: Fields, doc: str, words: int = 1, locked: bool = False) -> None:
        nonlocal at
        found.append(Register(name, at, access, fields, doc, words=words, locked=locked, managers=prefetch.managers))
        at += 4 * words

    for ring in ("DEMAND", "PREFETCH"):
        where = f"{ring}_BASE + 64 * (i mod {ring}_SIZE)"
        add(f"{ring}_BASE", Access.RW, byte_address, "Where the ring is in memory: a multiple of 64.", words=2, locked=True)
        add(f"{ring}_SIZE", Access.RW, _whole("descriptors"), f"Room in the ring: descriptor i is at {where}.", locked=True)
        add(
            f"{ring}_TAIL",
            Access.RW,
            _whole("descriptors"),
            "Those that are in the ring, counted from START on: the first of the run is number 0. It only grows during a run.",
        )
    complete = tuple(_field(ring.name, 16 * ring, TAG_WIDTH, f"of the {ring.name.lower()} ring") for ring in Ring)
    error = (
        _field("CODE", 0, 4, "what", codes=PrefetchError),
        _field("RING", 8, 1, "ring", codes=Ring),
        _field("TAG", 16, TAG_WIDTH, "tag"),
    )
    add("COMPLETE", Access.RO, complete, "Tags that are complete.")
    add("ERROR", Access.RO, error, "First error of the engine since START.")
    add("ERROR_ADDRESS", Access.RO, byte_address, "Of the burst that failed, or of the descriptor that is wrong.", words=2)
    for ring in ("DEMAND", "PREFETCH") if config.passes else ():
        descriptors = _whole("descriptors")
        add(
            f"{ring}_BODY",
            Access.RW,
            descriptors,
            "The first descriptor of the ring's body, from 1 on; 0: there is none.",
            locked=True,
        )
        add(f"{ring}_BODY_END", Access.RW, descriptors, "The first one behind it, which is in the ring.", locked=True)
    return found
