"""Node: everything of one index of a chip; between nodes there are only networks."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.errors import BankError, NodeErrors
from podweave.spec.jobs import load_job_layout, post_job_layout, stream_job_layout
from podweave.spec.layout import bits_for_index
from podweave.spec.load_port import Counter, HostSelect, host_widths

from ..parts.blocks import Block, delay_line, place, register
from ..parts.planes import planes_of, to_plane
from ..pod.pod import Pod
from ..post.post_processor import PostProcessor
from ..post.row_path import STATISTIC_PORTS, row_members
from .accesses import Accesses, host_port, link_port
from .feeder import Feeder
from .node_counters import NodeCounters
from .p_bank import PBank
from .read_bank import ReadBank


class Node(Block):
    """A pod, the three banks and the post-processor of one index, their program stores, counters and errors.

    Ports of the planes of a network lie side by side, plane 0 least significant. A request or write has one bit of ``valid`` per
    plane, and bank and payload once, for the plane that it names. ``planes``: those of the network of a port.

    Latency: 1 cycle from a request to a bank to its word, ``bank_x_data`` or ``bank_w_data``; 3 cycles from a host read to
    ``host_read_data``, 2 from one of the collective engine to ``link_read_data``.

    Parameters
    ----------
    config : ChipConfig
        All of it that a node has; with a ``program`` and a ``post``.

    Members
    -------
    run : In(1)
        To pod and post-processor: the epoch is on.
    fill, rewind : In(1)
        To the feeders.
    clear : In(1)
        Counters to 0.
    busy : Out(1)
        Pod or post-processor are busy or a feeder is not done.
    error : Out(1)
        Any error register is not 0.
    x_valid, w_valid : Out(planes)
        Read requests of the pod.
    x_bank, w_bank, p_bank, y_bank : Out(bits_for_index(banks))
        Bank of the request or write.
    x_address, w_address : Out(bits_for_index(x_words)), Out(bits_for_index(w_words))
        Word in the bank.
    x_data, w_data : In(planes * 8 * rows), In(planes * 8 * cols)
        Words for the pod, one of each plane.
    bank_x_valid, bank_w_valid : In(planes)
        Requests to the X (W) bank.
    bank_x_address, bank_w_address : In(planes * bits_for_index(x_words)), In(planes * bits_for_index(w_words))
        Their words.
    bank_x_data, bank_w_data : Out(8 * rows), Out(8 * cols)
        One word for all planes, one cycle after its request.
    p_valid, y_valid : Out(planes)
        Writes of the pod (P) and of the post-processor (Y).
    p_payload, y_payload : Out(sum of p_payload_parts), Out(sum of y_payload_parts)
        What they write.
    bank_p_valid, bank_y_valid : In(planes)
        Writes into the P (X) bank.
    bank_p_payload, bank_y_payload : In(planes * payload)
        What is written, as in ``p_payload`` (``y_payload``).
    host_valid : In(1)
        An access is for this node.
    host_write, host_commit, host_select, ... : In(width in access_members)
        As on a load port of a `Chip`, for this node.
    host_read_data : Out(host_bits)
        3 cycles after a read; 0 in all other cycles.
    link_valid : In(1)
        Only with links, as all ``link_*``: an access of the collective engine is for this node. In the cycle before the host has
        none to an X or P bank.
    link_write, link_add, link_kind, link_address, link_data : In(width in link_access_members)
        As on the port of a `Chip`, for this node.
    link_read_data : Out(link_bits)
        2 cycles after a read; 0 in all other cycles.
    sent, sent_statistic, sent_level, sent_value, sent_element : Out(as of a PostProcessor)
        Only with row functions: a statistic of a row for the statistics network.
    total, place : In(signed(STATISTIC_WIDTH)), In(ELEMENT_WIDTH)
        Only with row functions: what that brings back.
    """

    kind = "node"

    def __init__(self, config: ChipConfig):
        self.config = config
        memory, array = config.memory, config.array
        bank = bits_for_index(memory.banks)

        def read_port(name: str, planes: int, words: int, lanes: int) -> dict[str, Any]:
            address = bits_for_index(words)
            return {
                f"{name}_valid": Out(planes),
                f"{name}_bank": Out(bank),
                f"{name}_address": Out(address),
                f"{name}_data": In(planes * 8 * lanes),
                f"bank_{name}_valid": In(planes),
                f"bank_{name}_address": In(planes * address),
                f"bank_{name}_data": Out(8 * lanes),
            }

        def write_port(name: str, planes: int, payload: int) -> dict[str, Any]:
            return {
                f"{name}_valid": Out(planes),
                f"{name}_bank": Out(bank),
                f"{name}_payload": Out(payload),
                f"bank_{name}_valid": In(planes),
                f"bank_{name}_payload": In(planes * payload),
            }

        super().__init__(
            {
                "run": In(1),
                "fill": In(1),
                "rewind": In(1),
                "clear": In(1),
                "busy": Out(1),
                "error": Out(1),
                **read_port("x", memory.x_planes, memory.x_words, array.rows),
                **read_port("w", memory.w_planes, memory.w_words, array.cols),
                **write_port("p", memory.p_planes, sum(p_payload_parts(config))),
                **write_port("y", memory.y_planes, sum(y_payload_parts(config))),
                **{name: In(width) for name, width in host_port(config).items()},
                "host_read_data": Out(config.host_bits),
                **{name: In(width) for name, width in link_port(config).items()},
                **({"link_read_data": Out(config.link_bits)} if config.links else {}),
                **({name: row_members(config)[name] for name in STATISTIC_PORTS} if config.has_rows else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        config, program = self.config, self.config.program
        m = Module()
        self._accesses = Accesses(m, config, self)
        pod = place(m, "pod", Pod(config))
        post = place(m, "post_processor", PostProcessor(config))
        x_bank, w_bank = place(m, "x_memory", ReadBank(config, "x")), place(m, "w_memory", ReadBank(config, "w"))
        p_bank = place(m, "p_memory", PBank(config))
        m.d.comb += [pod["run"].eq(self.run), post["run"].eq(self.run)]

        done = []
        for select, layout, depth, taker, prefix in (
            (HostSelect.LOAD_STORE, load_job_layout(config), program.load_jobs, pod, "load_"),
            (HostSelect.STREAM_STORE, stream_job_layout(config), program.stream_jobs, pod, "stream_"),
            (HostSelect.POST_STORE, post_job_layout(config), program.post_jobs, post, "job_"),
        ):
            feeder = place(m, f"{layout.name}_feeder", Feeder(layout, depth))
            m.d.comb += [
                feeder["fill"].eq(self.fill),
                feeder["rewind"].eq(self.rewind),
                taker[f"{prefix}valid"].eq(feeder["job_valid"]),
                taker["job" if taker is post else f"{prefix}job"].eq(feeder["job"]),
                feeder["job_ready"].eq(taker[f"{prefix}ready"]),
                *self._accesses.port(feeder, select),
            ]
            done.append(feeder["done"])
        m.d.comb += self.busy.eq(pod["busy"] | post["busy"] | ~Cat(done).all())
        if config.has_rows:
            self._rows(m, post)

        self._reads(m, "x", pod, x_bank)
        self._reads(m, "w", pod, w_bank)
        self._writes(m, pod, post, x_bank, p_bank)
        counters = self._counters(m, pod, post, x_bank, w_bank, p_bank)
        errors = self._errors(m, pod, post, x_bank, w_bank, p_bank)
        m.d.comb += [
            *self._accesses.bank_port(x_bank, HostSelect.X),
            *self._accesses.port(w_bank, HostSelect.W),
            *self._accesses.bank_port(p_bank, HostSelect.P),
            post["parameter_write"].eq(self._accesses.writes(HostSelect.PARAMETERS)),
            post["parameter_address"].eq(self._accesses.address),
            post["parameter_data"].eq(self._accesses.written),
            post["table_write"].eq(self._accesses.writes(HostSelect.TABLE)),
            post["table_address"].eq(self._accesses.address),
            post["table_data"].eq(self._accesses.written),
        ]
        read_x = x_bank["host_word" if config.memory.x_parts > 1 else "data"]
        self._host_reads(m, read_x, w_bank, p_bank, counters, errors, post)
        if config.links:
            words = {HostSelect.X: read_x, HostSelect.P: p_bank["read_data"]}
            m.d.comb += self.link_read_data.eq(self._accesses.link_words(m, words))
        return m

    def _reads(self, m: Module, name: str, pod: dict[str, Any], bank: dict[str, Any]) -> None:
        """A request goes to the plane it names; its word is taken from there when it is due."""
        planes = len(getattr(self, f"{name}_valid"))
        words = planes_of(getattr(self, f"{name}_data"), planes)
        word = words[0]
        if planes > 1:
            due = delay_line(m, pod[f"{name}_request_plane"], self.config.read_latency, name=f"{name}_plane")[-1]
            for i in range(1, planes):
                word = Mux(due == i, words[i], word)
        select = HostSelect[name.upper()]
        m.d.comb += [
            getattr(self, f"{name}_valid").eq(to_plane(pod[f"{name}_request_valid"], pod, f"{name}_request_plane", planes)),
            getattr(self, f"{name}_bank").eq(pod[f"{name}_request_bank"]),
            getattr(self, f"{name}_address").eq(pod[f"{name}_request_address"]),
            pod[f"{name}_data"].eq(word),
            bank["read_valid"].eq(getattr(self, f"bank_{name}_valid")),
            bank["read_address"].eq(getattr(self, f"bank_{name}_address")),
            bank["host_read"].eq(self._accesses.reads(select)),
            getattr(self, f"bank_{name}_data").eq(bank["data"]),
        ]

    def _writes(self, m: Module, pod: dict[str, Any], post: dict[str, Any], x_bank: dict[str, Any], p_bank: dict[str, Any]) -> None:
        memory = self.config.memory
        arriving_p = [_parts(word, p_payload_parts(self.config)) for word in planes_of(self.bank_p_payload, memory.p_planes)]
        arriving_y = [_parts(word, y_payload_parts(self.config)) for word in planes_of(self.bank_y_payload, memory.y_planes)]
        # What the post-processor writes into its own bank arrives as on one more plane.
        own = [post[f"own_{part}"] for part in ("valid", "data", "address", "accumulate")] if self.config.has_rows else []
        m.d.comb += [
            self.p_valid.eq(to_plane(pod["p_valid"], pod, "p_plane", memory.p_planes)),
            self.p_bank.eq(pod["p_bank"]),
            self.p_payload.eq(Cat(pod["p_data"], pod["p_address"], pod["p_accumulate"])),
            self.y_valid.eq(to_plane(post["y_valid"], post, "y_plane", memory.y_planes)),
            self.y_bank.eq(post["y_bank"]),
            self.y_payload.eq(Cat(post["y_data"], post["y_address"], post["y_slot"])),
            p_bank["write_valid"].eq(Cat(self.bank_p_valid, *own[:1])),
            p_bank["write_data"].eq(Cat(*(parts[0] for parts in arriving_p), *own[1:2])),
            p_bank["write_address"].eq(Cat(*(parts[1] for parts in arriving_p), *own[2:3])),
            p_bank["write_accumulate"].eq(Cat(*(parts[2] for parts in arriving_p), *own[3:])),
            x_bank["write_valid"].eq(self.bank_y_valid),
            x_bank["write_data"].eq(Cat(parts[0] for parts in arriving_y)),
            x_bank["write_address"].eq(Cat(parts[1] for parts in arriving_y)),
            x_bank["write_slot"].eq(Cat(parts[2] for parts in arriving_y)),
        ]
        reads, address = self._accesses.reads(HostSelect.P), self._accesses.bank_address()
        m.d.comb += [
            p_bank["read_enable"].eq(post["p_read_enable"] | reads),
            p_bank["read_address"].eq(Mux(post["p_read_enable"], post["p_read_address"], address)),
            post["p_data"].eq(p_bank["read_data"]),
        ]

    def _rows(self, m: Module, post: dict[str, Any]) -> None:
        """Statistics go out and come back; lengths are written, and values read, through the load port."""
        for name in STATISTIC_PORTS:
            port = getattr(self, name)
            m.d.comb += post[name].eq(port) if name in ("total", "place") else port.eq(post[name])
        m.d.comb += [
            post["length_write"].eq(self._accesses.writes(HostSelect.LENGTHS)),
            post["length_address"].eq(self._accesses.address),
            post["length_data"].eq(self._accesses.written),
            post["value_read"].eq(self._accesses.reads(HostSelect.ROWS)),
            post["value_row"].eq(self._accesses.address),
        ]

    def _counters(self, m: Module, pod: Any, post: Any, x_bank: Any, w_bank: Any, p_bank: Any) -> dict[str, Any]:
        counters = place(m, "counters", NodeCounters())
        events = {
            Counter.X_WORDS: pod["x_request_valid"],
            Counter.W_WORDS: pod["w_request_valid"],
            Counter.P_WORDS: pod["p_valid"],
            Counter.X_READS: x_bank["reads"],
            Counter.X_WRITES: x_bank["writes"],
            Counter.W_READS: w_bank["reads"],
            Counter.P_STORES: p_bank["stores"],
            Counter.P_ACCUMULATES: p_bank["accumulates"],
            Counter.POST_WORDS: post["y_valid"],
        }
        m.d.comb += [
            counters["clear"].eq(self.clear),
            counters["run"].eq(self.run),
            counters["select"].eq(self._accesses.address),
            *(counters[counter.name.lower()].eq(event) for counter, event in events.items()),
        ]
        return counters

    def _errors(self, m: Module, pod: Any, post: Any, x_bank: Any, w_bank: Any, p_bank: Any) -> dict[NodeErrors, Value]:
        events = {
            BankError.X_HAZARD: x_bank["hazard"],
            BankError.X_CONFLICT: x_bank["conflict"] | self._accesses.x_collides,
            BankError.W_CONFLICT: w_bank["conflict"],
            BankError.P_CONFLICT: p_bank["conflict"],
            BankError.P_BUSY: p_bank["busy_conflict"] & post["p_read_enable"],
            # The host reads whenever it likes.
            BankError.P_HAZARD: p_bank["hazard"] & post["p_read_enable"],
        }
        assert set(events) == set(BankError)
        banks = Signal(len(BankError), name="bank_errors")
        m.d.sync += banks.eq(banks | Cat(events[error] for error in BankError))
        m.d.comb += self.error.eq(pod["errors"].any() | post["errors"].any() | banks.any())
        return {
            NodeErrors.POD: pod["errors"],
            NodeErrors.POD_TIME: pod["error_time"],
            NodeErrors.POST: post["errors"],
            NodeErrors.POST_TIME: post["error_time"],
            NodeErrors.BANK: banks,
        }

    def _host_reads(
        self, m: Module, read_x: Value, w_bank: Any, p_bank: Any, counters: Any, errors: dict[NodeErrors, Value], post: Any
    ) -> None:
        """What stands in a register goes into another one for a cycle, so that all reads take as long as those of a bank."""
        widths = {select: width for select, (_, width) in host_widths(self.config).items()}
        error = Signal(widths[HostSelect.ERRORS], name="error_word")
        with m.Switch(self._accesses.address):
            for which, value in errors.items():
                with m.Case(which):
                    m.d.comb += error.eq(value)
        reads = register(m, self._accesses.reading, name="host_reads", reset_less=False)
        select = register(m, self._accesses.select, name="host_selected")
        number = register(m, self._accesses.beat, name="host_beat_number")
        sources = {
            HostSelect.X: read_x,
            HostSelect.W: w_bank["data"],
            HostSelect.P: p_bank["read_data"],
            HostSelect.COUNTERS: register(m, counters["value"], name="counter_word"),
            HostSelect.ERRORS: register(m, error, name="error_word_held"),
            **({HostSelect.ROWS: post["value"]} if self.config.has_rows else {}),
        }
        width = self.config.host_bits
        beat = Signal(width, name="host_beat_read")
        with m.Switch(Cat(number, select)):
            for source, value in sources.items():
                for i, low in enumerate(range(0, widths[source], width)):
                    with m.Case(source << len(number) | i):
                        m.d.comb += beat.eq(value[low : min(low + width, widths[source])])
        m.d.comb += self.host_read_data.eq(register(m, Mux(reads, beat, 0), name="host_read_word", reset_less=False))


def p_payload_parts(config: ChipConfig) -> tuple[int, int, int]:
    """Bits of partial sums, address, and accumulate (1) or store (0) in a word of the P network, from the least significant."""
    return config.array.psum_width * config.array.cols, bits_for_index(config.memory.p_words), 1


def y_payload_parts(config: ChipConfig) -> tuple[int, int, int]:
    """Bits of outputs, address and slot in a word of the Y network, from the least significant."""
    slots = config.array.rows // config.post_lanes
    return 8 * config.post_lanes, bits_for_index(config.memory.x_words), bits_for_index(slots)


def _parts(word: Value, widths: tuple[int, ...]) -> list[Value]:
    found, at = [], 0
    for width in widths:
        found.append(word[at : at + width])
        at += width
    return found
