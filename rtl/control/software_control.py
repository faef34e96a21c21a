"""SoftwareControl: registers, run control, performance counters and node window as one block."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Value
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.descriptors import TAG_WIDTH
from podweave.spec.errors import network_error_layout
from podweave.spec.links import ID_WIDTH, RUN_WIDTH
from podweave.spec.register_list import base_register, counters

from ..parts.blocks import place
from ..parts.load_port import load_port_members
from ..parts.planes import planes_of
from ..parts.wired_block import WiredBlock
from ..prefetch.engine_words import base_members, shared_pass_members
from ..prefetch.prefetch_count import UNCONSUMED_WIDTH
from .csr import Csr, axil_members
from .node_window import WORD_WIDTH, NodeWindow, window_members
from .run_control import RINGS, RunControl
from .run_counters import LINK_EVENTS, STALLS, RunCounters

CHIP_INPUTS = ("start", "epochs", "rewind", "hold")
CHIP_OUTPUTS = ("busy", "error", "cycles", "total_cycles", "network_error")


def control_members(config: ChipConfig) -> dict[str, Any]:
    assert config.prefetch is not None
    managers, address = config.managers, config.prefetch.address_width
    load_port = {name: managers * width for name, width in load_port_members(config).items()}
    to_engines = {
        **dict.fromkeys(("start", "stop", "enable", "gap"), 1),
        "cap": 32,
        "memory_bytes": address + 1,
        "epochs_done": TAG_WIDTH,
        **{f"{ring}_base": managers * address for ring in RINGS},
        **{f"{ring}_{what}": managers * 32 for ring in RINGS for what in ("size", "tail")},
        "cancel_valid": managers,
        "cancel_tag": TAG_WIDTH,
        **{name: member.shape for name, member in base_members(config).items()},
        **{name: member.shape for name, member in shared_pass_members(config).items()},
        **{f"{ring}_{what}": managers * 32 for ring in RINGS for what in ("body", "body_end") if config.passes},
    }
    from_engines = {
        **{f"{ring}_complete": TAG_WIDTH for ring in RINGS},
        **{"quiet": 1, "error": 4, "error_tag": TAG_WIDTH, "error_address": address, "error_ring": 1},
        **{"read_beat": 1, "read_class": 2, "write_beat": 1, **{f"stall_{stall}": 1 for stall in STALLS}},
        "unconsumed": UNCONSUMED_WIDTH,
    }
    return {
        **axil_members(config),
        "irq": Out(1),
        "core_reset": Out(1),
        **{f"chip_{name}": Out(32 if name == "epochs" else 1) for name in CHIP_INPUTS},
        **dict.fromkeys(("chip_busy", "chip_error"), In(1)),
        **dict.fromkeys(("chip_cycles", "chip_total_cycles"), In(32)),
        "chip_network_error": In(network_error_layout(config).width),
        **{f"engine_{name}": Out(width) for name, width in to_engines.items()},
        **{f"engine_{name}": In(managers * width) for name, width in from_engines.items()},
        **{f"engine_{name}": In(width) for name, width in load_port.items()},
        **{name: Out(width) for name, width in load_port.items()},
        "host_read_data": In(managers * config.host_bits),
        **(link_control_members() if config.links else {}),
    }


def link_control_members() -> dict[str, Any]:
    """Ports to and from the collective engine."""
    outputs = {"begin": 1, "stop": 1, "first": ID_WIDTH, "run": RUN_WIDTH, "timeout": 32}
    inputs = {"busy": 1, "epoch": ID_WIDTH, "error": 4, "error_id": ID_WIDTH, "sent": 1, "received": 1, "waits": 1}
    return {
        **{f"link_{name}": Out(width) for name, width in outputs.items()},
        **{f"link_{name}": In(width) for name, width in inputs.items()},
    }


class SoftwareControl(WiredBlock):
    """Everything of an accelerator that is neither chip nor engine: `Csr`, `RunControl`, `RunCounters` and `NodeWindow`.

    A write of START takes effect in cycle t of the `Csr`; cycle t of the `RunControl` is the next one.

    Latency: 1 cycle from a command at the `Csr` to the `RunControl`; 0 from ``engine_host_*`` to ``host_*``.

    Parameters
    ----------
    config : ChipConfig
        With a ``prefetch``; widths are those of `control_members`.

    Members
    -------
    s_axil_* : as in axil_members
        Of the `Csr`.
    irq : Out(1)
        Of the `Csr`.
    core_reset : Out(1)
        The reset of chip and engines, in place of ``rst``, which it includes.
    chip_* : as in control_members
        To and from the members of a `Chip` without this prefix.
    engine_* : as in control_members
        To and from the engines; ``start``, ``stop``, ``enable``, ``gap``, ``cap``, ``memory_bytes``, ``epochs_done``,
        ``cancel_tag``, ``bases``, ``passes``, ``pass_epochs`` and ``pass_stride`` once for all, all others for each manager side by
        side, manager 0 least significant.
    engine_host_* : In(managers * width in load_port_members)
        The load ports of the engines, which pass through in the same cycle.
    host_* : Out(managers * width in load_port_members)
        The load ports of the chip.
    host_read_data : In(managers * host_bits)
        Of the chip; the engines take what they read from there.
    link_* : as in link_control_members
        Only with links: to and from the collective engine: FIRST_COLLECTIVE, LINK_RUN and LINK_TIMEOUT; members of the
        `RunControl`; ``error_id`` with its error; and what is counted: ``sent``, ``received`` and ``waits``, events of one cycle.
        It starts with the engines, by ``engine_start``.
    """

    kind = "control"

    def __init__(self, config: ChipConfig):
        assert config.prefetch is not None
        self.config = config
        super().__init__(control_members(config))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        csr, run = place(m, "csr", Csr(self.config)), place(m, "run_control", RunControl(self.config))
        performance = place(m, "performance", RunCounters(self.config))
        window = place(m, "node_window", NodeWindow(self.config))
        for name, member in axil_members(self.config).items():
            m.d.comb += getattr(self, name).eq(csr[name]) if member.flow is Out else csr[name].eq(getattr(self, name))
        m.d.comb += [self.irq.eq(csr["irq"]), self.core_reset.eq(run["core_reset"])]
        self._status(m, csr, run, performance)
        self._run(m, csr, run)
        self._engines(m, csr, run)
        self._counters(m, run, performance)
        self._window(m, csr, window)
        if self.config.links:
            self._links(m, csr, run, performance)
        return m

    def _status(self, m: Module, csr: Any, run: Any, performance: Any) -> None:
        layout = network_error_layout(self.config)
        status: dict[str, Value] = {
            **{f"status_{name}": run[name] for name in ("busy", "done", "aborted", "refused", "reason")},
            "status_error": run["failed"],
            **{f"irq_pending_{name}": run[f"event_{name}"] for name in ("done", "error", "epoch", "refused")},
            "error_source_source": run["error_source"],
            "error_source_manager": run["error_manager"],
            "chip_error_any": self.chip_error,
            "chip_error_network": self.chip_network_error[0],
            **{
                f"network_error_{f.name}": self.chip_network_error[layout.offset(f.name) : layout.offset(f.name) + f.width]
                for f in layout.fields
            },
            "epochs_done": run["epochs_done"],
            "epoch_cycles": self.chip_cycles,
            "total_cycles": self.chip_total_cycles,
            **{name.lower(): performance[f"count_{name.lower()}"] for name, *_ in counters(self.config)},
            **{f"complete_{ring}": getattr(self, f"engine_{ring}_complete") for ring in RINGS},
            "error_code": self.engine_error,
            **{name: getattr(self, f"engine_{name}") for name in ("error_ring", "error_tag", "error_address")},
        }
        m.d.comb += [csr[name].eq(value) for name, value in status.items()]

    def _run(self, m: Module, csr: Any, run: Any) -> None:
        m.d.comb += [run[name].eq(csr[f"control_{name}"]) for name in ("start", "abort", "soft_reset", "clear")]
        settings = ("epochs", "cancel_valid", "cancel_manager", "cancel_tag", *(["passes"] if self.config.passes else []))
        m.d.comb += [run[name].eq(csr[name]) for name in (*settings, *(f"{r}_{w}" for r in RINGS for w in ("base", "size")))]
        m.d.comb += [run[f"{ring}_complete"].eq(getattr(self, f"engine_{ring}_complete")) for ring in RINGS]
        m.d.comb += [run["quiet"].eq(self.engine_quiet), run["engine_error"].eq(self.engine_error)]
        m.d.comb += [getattr(self, f"chip_{name}").eq(run[f"chip_{name}"]) for name in CHIP_INPUTS]
        m.d.comb += [run[f"chip_{name}"].eq(getattr(self, f"chip_{name}")) for name in ("busy", "error", "network_error")]

    def _engines(self, m: Module, csr: Any, run: Any) -> None:
        memory_bytes = csr["memory_bytes"]
        values: dict[str, Value] = {
            "start": run["engine_start"],
            "stop": run["engine_stop"],
            "gap": run["gap"],
            "epochs_done": run["epochs_done"],
            "cancel_valid": run["engine_cancel"],
            "cancel_tag": run["engine_cancel_tag"],
            "enable": run["enable"] if self.config.links else csr["options_prefetch"],
            "cap": csr["cap"],
            # An address space of 64 bits ends one byte before what a register can say.
            "memory_bytes": Cat(memory_bytes, Const(0, len(self.engine_memory_bytes) - len(memory_bytes))),
            **{f"{ring}_{what}": csr[f"{ring}_{what}"] for ring in RINGS for what in ("base", "size", "tail")},
        }
        if self.config.passes:
            values |= {"passes": csr["passes"], "pass_epochs": csr["epochs"][:TAG_WIDTH], "pass_stride": csr["pass_stride"]}
            values |= {f"{ring}_{what}": csr[f"{ring}_{what}"] for ring in RINGS for what in ("body", "body_end")}
        if base_members(self.config):
            assert self.config.prefetch is not None
            numbers = range(1, self.config.prefetch.base_registers + 1)
            values["bases"] = Cat(csr[base_register(number).lower()] for number in numbers)
        m.d.comb += [getattr(self, f"engine_{name}").eq(value) for name, value in values.items()]

    def _counters(self, m: Module, run: Any, performance: Any) -> None:
        run_events = ("launched", "running", "wait_prefetch", "wait_demand", "wait_store", "begins", "prefetch_hit", "wasted")
        events = ("read_beat", "read_class", "write_beat", *(f"stall_{stall}" for stall in STALLS), "unconsumed")
        m.d.comb += performance["clear"].eq(run["counters_clear"])
        m.d.comb += [performance[name].eq(run[name]) for name in run_events]
        m.d.comb += [performance[name].eq(getattr(self, f"engine_{name}")) for name in events]

    def _links(self, m: Module, csr: Any, run: Any, performance: Any) -> None:
        m.d.comb += [
            *(getattr(self, f"link_{name}").eq(run[f"link_{name}"]) for name in ("begin", "stop")),
            *(run[f"link_{name}"].eq(getattr(self, f"link_{name}")) for name in ("busy", "epoch", "error")),
            *(run[name].eq(csr[f"options_{name}"]) for name in ("prefetch", "beneath")),
            self.link_first.eq(csr["first_collective"]),
            self.link_run.eq(csr["link_run"]),
            self.link_timeout.eq(csr["link_timeout"]),
            csr["link_error_code"].eq(self.link_error),
            csr["link_error_id"].eq(self.link_error_id),
        ]
        events = {
            "collecting": run["collecting"],
            "link_sent": self.link_sent,
            "link_received": self.link_received,
            "wait_neighbour": self.link_waits,
        }
        m.d.comb += [performance[name].eq(events[name]) for name in LINK_EVENTS]

    def _window(self, m: Module, csr: Any, window: Any) -> None:
        m.d.comb += [
            window["read"].eq(csr["node_data_read"]),
            *(window[name].eq(csr[f"node_select_{name}"]) for name in ("node", "words", "index")),
            csr["node_data_done"].eq(window["done"]),
            csr["node_data_error"].eq(window["error"]),
            csr["node_data"].eq(window["data"]),
            window["read_data"].eq(Cat(word[:WORD_WIDTH] for word in planes_of(self.host_read_data, self.config.managers))),
            self.host_data.eq(self.engine_host_data),
        ]
        for name in window_members(self.config):
            m.d.comb += [getattr(self, name).eq(window[name]), window[f"engine_{name}"].eq(getattr(self, f"engine_{name}"))]
