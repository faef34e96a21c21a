"""An accelerator as software sees it: registers and memory, nothing else. A simulator drives it like an FPGA would be driven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from podweave.compiler.memory.image import MemoryImage
from podweave.compiler.memory.tensors import TensorMap
from podweave.spec.config import ChipConfig
from podweave.spec.links import RUN_WIDTH
from podweave.spec.load_port import Counter
from podweave.spec.register_list import base_register
from podweave.spec.register_map import NodeWords, Refusal, counters

from .registers import Bus, DeviceError, DeviceRegisters, sentence

__all__ = ["FOREVER", "Bus", "Device", "DeviceError", "RunCounters", "Start"]

_INTERRUPTS = ("DONE", "ERROR", "EPOCH", "REFUSED")
FOREVER = 1 << 62


@dataclass(frozen=True)
class RunCounters:
    """``device``: the performance counters by name. ``nodes``: those of the nodes by name, one value per node."""

    device: dict[str, int]
    nodes: dict[str, NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Start:
    """How a run is started.

    Parameters
    ----------
    prefetch : bool
        Whether words may be loaded before their epoch is the next one.
    beneath : bool
        Whether they may in collectives.
    cap : int
        At most so many words per manager at a time are ahead of their epoch; 0: no limit.
    warm : bool, optional
        Whether the run relies on what the run before has left on the chip, and loads only what is not there any more: by default if
        it can (`Device.is_warm`). What was loaded is in the banks, parameter sets, tables and program stores until another run
        begins, an error or an abort ends one, or the chip is reset; then a run is *cold*, and loads all. Who changes weights in
        memory himself starts a cold run.
    passes : int, optional
        How often the run goes over the network; by default as often as its memory has room for inputs and outputs.
    link_run : int, optional
        Number of the run, the same in all chips of a ring and another than before; by default one more than the last.
    """

    prefetch: bool = True
    beneath: bool = True
    cap: int = 0
    warm: bool | None = None
    passes: int | None = None
    link_run: int | None = None


USUAL = Start()


class Device(DeviceRegisters):
    """One accelerator on a bus.

    While a run is on, from `start` to its interrupt, only `wait`, `abort`, `read`, `fields`, `counters` and `errors` are legal;
    `load`, `select`, `set_base`, `write_input`, `read_input`, `read_output`, `start` and `reset` raise `DeviceError` and change
    nothing.

    >>> device = Device(bus, config)                # doctest: +SKIP
    >>> device.load(image)                          # doctest: +SKIP
    >>> device.write_input("image", pixels)         # doctest: +SKIP
    >>> device.run(Start(cap=512))                  # doctest: +SKIP
    >>> logits = device.read_output("logits")       # doctest: +SKIP
    """

    def __init__(self, bus: Bus, config: ChipConfig):
        """Raises `DeviceError` if there is no accelerator of this configuration on the bus."""
        super().__init__(bus, config)
        self.image: MemoryImage | None = None
        self.warm = False
        """Whether the last run found on the chip what a run before had left there, and did not load it again."""
        self._left: MemoryImage | None = None
        # The program whose rings the device was told of, whether they are those of a warm run, and for how many passes.
        self._told: tuple[MemoryImage, bool, int] | None = None

    def load(self, image: MemoryImage) -> None:
        """Put a program into memory, and tell the device where. Inputs are written after it: it overwrites their places.

        Base registers are 0 then.

        Raises `DeviceError` if it is for another configuration, or if a run is on, whose memory it would overwrite.
        """
        self._require_selectable(image, "loaded")
        # Until all of it is in memory, there is none.
        self.image = self._left = None
        for address, content in image.content:
            self.bus.write_memory(address, content)
        self.select(image)

    def select(self, image: MemoryImage) -> None:
        """Go on with a program that `load` has put into memory, and that nothing has overwritten since: a few registers.

        Inputs keep their places in memory, caches what runs left in them; base registers are 0 then. Raises `DeviceError` if it is
        for another configuration, or if a run is on.
        """
        self._require_selectable(image, "selected")
        self.write("EPOCHS", VALUE=image.epochs)
        self.write("MEMORY_BYTES", VALUE=image.memory_bytes)
        self._told = None
        self._tell(image, warm=False, passes=image.passes)
        for number in range(1, self._base_registers + 1):
            self.write(base_register(number), VALUE=0)
        self.image = image

    def _tell(self, image: MemoryImage, *, warm: bool, passes: int) -> None:
        """Where the rings of the next run are."""
        if self._told is not None and self._told[0] is image and self._told[1:] == (warm, passes):
            return
        self._told = None
        if self.config.passes:
            self.write("PASSES", VALUE=passes)
            self.write("PASS_STRIDE", VALUE=image.pass_bytes)
        for manager in range(self.config.managers):
            for name, rings in zip(("DEMAND", "PREFETCH"), image.rings(warm=warm), strict=True):
                ring = rings[manager]
                self.write(f"{name}_BASE", manager, VALUE=ring.base)
                self.write(f"{name}_SIZE", manager, VALUE=len(ring))
                self.write(f"{name}_TAIL", manager, VALUE=len(ring.order(passes)[0]))
                if self.config.passes:
                    self.write(f"{name}_BODY", manager, VALUE=ring.body[0])
                    self.write(f"{name}_BODY_END", manager, VALUE=ring.body[1])
        self._told = image, warm, passes

    @property
    def is_warm(self) -> bool:
        """Whether the chip holds what a run of the program leaves there: the last run since it was loaded was one of it, and STATUS
        still says that it ended well, as it does until a reset."""
        if self.image is None or not self.image.may_stay or self._left is not self.image:
            return False
        status = self.fields("STATUS")
        return bool(status["DONE"] and not status["ERROR"] and not status["ABORTED"])

    def _require_selectable(self, image: MemoryImage, verb: str) -> None:
        if image.config != self.config:
            raise DeviceError(f"the image is for {image.config.name}, the device is a {self.config.name} of another configuration")
        self._refuse_in_a_run(f"no program can be {verb}")

    def set_base(self, number: int, value: int) -> None:
        """What descriptors with base register ``number``, from 1 on, add to their addresses in the runs to come, in bytes.

        Raises `DeviceError` if there is no such register, if it cannot hold the value, or if a run is on, whose transfers would
        change.
        """
        name, last = base_register(number), self._base_registers
        if not 1 <= number <= last:
            has = f"it has {base_register(1)} to {base_register(last)}" if last else "it has none"
            raise DeviceError(f"{self.config.name} has no base register {name}: {has}")
        beyond = self.registers[name].mask + 1
        if not 0 <= value < beyond:
            raise DeviceError(f"{name} holds 0 to {beyond - 1:#x}, got {value:#x}")
        self._refuse_in_a_run(f"{name} cannot be set")
        self.write(name, VALUE=value)

    @property
    def _base_registers(self) -> int:
        assert self.config.prefetch is not None
        return self.config.prefetch.base_registers

    def write_input(self, name: str, tensor: NDArray, number: int = 0) -> None:
        """Put an input of the graph, (B, H, W, C), of pass ``number`` of a run wherever it is needed in memory; int8, but in graphs
        of rows. An offset goes into base registers.

        Raises `DeviceError` if there is no such input or pass, if the tensor is of another shape or type, or if a run is on, which
        may read the input at any time until it ends.
        """
        if self.image is not None and name in self.image.offsets:
            self._write_offset(name, tensor)
            return
        where = self._tensor(name, "input", number)
        if tensor.shape != where.shape or tensor.dtype != where.dtype:
            raise DeviceError(f"input {name} is {where.dtype} {where.shape}, got {tensor.dtype} {tensor.shape}")
        self._refuse_in_a_run("no input can be written")
        values = where.encoded(tensor)
        for begin, mine in self._regions(where):
            at = where.addresses[mine] - begin
            region = self.bus.read_memory(begin, int(at.max()) + 1).copy()
            region[at] = values[where.elements[mine]]
            self.bus.write_memory(begin, region)

    def _write_offset(self, name: str, tensor: NDArray) -> None:
        assert self.image is not None
        where = self.image.offsets[name]
        if tensor.shape != (1, 1, 1, 1) or not 0 <= tensor.item() <= where.most:
            raise DeviceError(f"input {name} is one number from 0 to {where.most}, got {tensor.tolist()}")
        for number, value in where.bases(int(tensor.item())).items():
            self.set_base(number, value)

    def read_input(self, name: str) -> NDArray:
        """An input as it lies in memory: of a cache, with what runs have added to it.

        Raises `DeviceError` if there is no such input, or if a run is on, which may change it.
        """
        where = self._tensor(name, "input")
        self._refuse_in_a_run("no input can be read")
        return self._read(where)

    def read_output(self, name: str, number: int = 0) -> NDArray:
        """An output of the graph, (B, H, W, C), of pass ``number`` of a run, after it; int8, but in graphs of rows.

        Raises `DeviceError` if there is no such output or pass, if the program does not store all of it, or if a run is on, which
        may write the output at any time until it ends.
        """
        where = self._tensor(name, "output", number)
        missing = where.size - len(np.unique(where.elements))
        if missing:
            raise DeviceError(f"output {name} is not all in memory: {missing} of its {where.size} bytes are stored nowhere")
        self._refuse_in_a_run("no output can be read")
        return self._read(where)

    def _read(self, where: TensorMap) -> NDArray:
        values = np.zeros(where.size, np.uint8)
        for begin, mine in self._regions(where):
            at = where.addresses[mine] - begin
            values[where.elements[mine]] = self.bus.read_memory(begin, int(at.max()) + 1)[at]
        return where.decoded(values)

    def start(self, how: Start = USUAL) -> bool:
        """Start a run of the loaded program and return at once; returns whether it is a warm run.

        Raises `DeviceError` if the device refuses, with the reason, if a run is on, whose options and interrupt would change, if it
        has no links and is told a number of a run, if the run is to be warm and cannot, or if it has more passes than there is
        memory for.
        """
        self.prepare(how)
        self.bus.write32(*self.start_access())
        self.require_started()
        return self.warm

    def prepare(self, how: Start = USUAL) -> None:
        """All of `start` but the start: whoever starts several devices does `start_access` of each at the same time, and then
        `require_started`."""
        if self.image is None:
            raise DeviceError("no program is loaded")
        self._refuse_in_a_run("no other run can be started")
        if how.warm and not self.is_warm:
            raise DeviceError(
                "no warm run can be started: "
                + (
                    "the last run was not one of this program that ended well"
                    if self.image.may_stay
                    else "the program loads all in every run"
                )
            )
        count = self.image.passes if how.passes is None else how.passes
        if not 1 <= count <= self.image.passes:
            raise DeviceError(f"the program has memory for 1 to {self.image.passes} passes, got {count}")
        self.warm, self._left = self.is_warm if how.warm is None else how.warm, None
        self._tell(self.image, warm=self.warm, passes=count)
        links = {"BENEATH": int(how.beneath)} if self.config.links else {}
        self.write("OPTIONS", PREFETCH=int(how.prefetch), **links)
        self.write("CAP", VALUE=how.cap)
        self._set_links(self.image.first_collective, how.link_run)
        self.write("IRQ_PENDING", **dict.fromkeys(_INTERRUPTS, 1))
        self.write("IRQ_ENABLE", DONE=1)

    def start_access(self) -> tuple[int, int]:
        """Offset and value of the register that starts a run."""
        return self.registers.offset("CONTROL"), self.registers.pack("CONTROL", START=1)

    def require_started(self) -> None:
        """Raises `DeviceError` if the start was refused, with the reason."""
        status = self.fields("STATUS")
        if status["REFUSED"]:
            raise DeviceError(f"the device refused to start: {sentence(Refusal(status['REASON']))}")

    def _set_links(self, first_collective: int, link_run: int | None) -> None:
        """What a run with collectives is told."""
        if self.config.links is None:
            if link_run is not None:
                raise DeviceError(f"{self.config.name} has no links: no run of it has collectives")
            return
        runs = 1 << RUN_WIDTH
        number = (self.read("LINK_RUN") + 1) % runs if link_run is None else link_run
        if not 0 <= number < runs:
            raise DeviceError(f"LINK_RUN holds 0 to {runs - 1}, got {number}")
        self.write("FIRST_COLLECTIVE", VALUE=first_collective)
        self.write("LINK_RUN", VALUE=number)

    def wait(self, max_cycles: int = FOREVER, progress: Callable[[int], None] | None = None) -> None:
        """Wait for the end of the run; raises `DeviceError` if it failed, was aborted, or lasts longer than ``max_cycles``."""
        self.finish(self.bus.wait_interrupt(max_cycles, progress), max_cycles)

    def finish(self, raised: bool, max_cycles: int) -> None:
        """What `wait` does after it has waited: ``raised`` says whether the interrupt is raised."""
        if not raised:
            if self.was_reset():
                raise DeviceError("no run is on: the device was reset")
            raise DeviceError(f"no interrupt within {max_cycles} cycles: {self.fields('EPOCHS_DONE')['VALUE']} epochs are done")
        self.write("IRQ_PENDING", DONE=1)
        status = self.fields("STATUS")
        if status["ERROR"]:
            raise DeviceError("; ".join(self.errors()))
        if status["ABORTED"]:
            raise DeviceError("the run was aborted")
        self._left = self.image

    def run(self, how: Start = USUAL, *, max_cycles: int = FOREVER, progress: Callable[[int], None] | None = None) -> bool:
        """`start` and `wait`; returns whether it was a warm run."""
        self.start(how)
        self.wait(max_cycles, progress)
        return self.warm

    def abort(self) -> None:
        """End the run; `wait` then raises `DeviceError`."""
        self.write("CONTROL", ABORT=1)

    def reset(self) -> None:
        """Bring chip and engines into their initial state; registers and memory keep what they hold. The next run is cold."""
        self._left = None
        self.write("CONTROL", SOFT_RESET=1)
        status = self.fields("STATUS")
        if status["REFUSED"]:
            raise DeviceError(f"the device refused to reset: {sentence(Refusal(status['REASON']))}")

    def was_reset(self) -> bool:
        """Whether neither a run is on nor one has ended since the last reset; in a run, somebody has reset the device."""
        status = self.fields("STATUS")
        return not status["BUSY"] and not status["DONE"]

    def counters(self) -> RunCounters:
        """The counters of the last run."""
        device = {name: self.read(name) for name, *_ in counters(self.config)}
        nodes = {
            counter.name.lower(): np.array(
                [self.node_word(node, NodeWords.COUNTERS, counter) for node in range(self.config.pods)], np.int64
            )
            for counter in Counter
        }
        return RunCounters(device, nodes)

    def _refuse_in_a_run(self, what: str) -> None:
        """Raises `DeviceError` if a run, or a reset, is on."""
        if self.fields("STATUS")["BUSY"]:
            raise DeviceError(f"{what} while a run is on: wait for its end, or abort it and wait")

    def _tensor(self, name: str, what: str, number: int = 0) -> TensorMap:
        if self.image is None:
            raise DeviceError("no program is loaded")
        maps = self.image.inputs if what == "input" else self.image.outputs
        if name not in maps:
            names = [*maps, *(self.image.offsets if what == "input" else ())]
            raise DeviceError(f"the network has no {what} {name!r}; it has {', '.join(names)}")
        if not 0 <= number < self.image.passes:
            raise DeviceError(f"the program has memory for passes 0 to {self.image.passes - 1}, got pass {number}")
        first = maps[name]
        return replace(first, addresses=first.addresses + number * self.image.pass_bytes) if number else first

    def _regions(self, where: TensorMap) -> list[tuple[int, NDArray[np.int64]]]:
        """First byte and elements of a tensor in each channel."""
        assert self.image is not None
        channel = where.addresses // self.image.channel_bytes
        return [(int(where.addresses[mine].min()), mine) for m in np.unique(channel) for mine in (np.flatnonzero(channel == m),)]
