"""Chip: nodes, the networks between them, and one root."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module

from .blocks import place
from .chip_root import COMMANDS, FANOUT, ChipRoot, chip_members, host_members
from .config import ChipConfig
from .layouts import NetworkId, bits_for_index
from .network import WritePorts, read_network, write_network
from .node import Node, p_payload_parts, y_payload_parts
from .structure import Structural


class Chip(Structural):
    """``pods`` nodes; X and W read networks and P and Y write networks for each plane; a root with sequencer and host port.

    An epoch begins with ``fill`` in cycle t (for the first epoch, t - 1 is that of the start) and has ``run`` from cycle
    t + `FILL_CYCLES` on, both at the sequencer; at the nodes ``host_levels`` cycles later. Its time 0 is the cycle after the first
    one with ``run`` at the nodes. If T is the epoch time of the last cycle in which a node is busy, ``cycles`` is
    T + `ChipConfig.epoch_overhead`; at its end all words are in their banks.

    Members
    -------
    ``host_valid``, ``host_write``, ``host_select``, ``host_unit``, ``host_address``: an access by `HostSelect` to a word of the
    node ``host_unit``, at most one per cycle; all but CONTROL only while ``busy`` is low. A word goes through ``host_data`` and
    ``host_read_data`` in beats of `HOST_BITS`, beat 0 least significant: ``host_beat`` names the one to read or to write. A node
    keeps the beats written; with ``host_commit``, all kept beats and this one become the word.
    ``host_read_data``: the beat of a read `ChipConfig.host_read_latency` cycles later; 0 in all other cycles.
    ``busy``: epochs are running. ``error``: a node or a network has an error, until reset; the epoch ends and no other begins.
    ``cycles``: cycles with ``run`` in the current or last epoch.
    """

    kind = "chip"

    def __init__(self, config: ChipConfig):
        self.config = config
        super().__init__(chip_members(config))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        nodes = [place(m, f"node_{i}", Node(self.config)) for i in range(self.config.pods)]
        networks = self._networks(m, nodes)
        errors = [(error, plane, network) for network, plane, ports in networks for error in ports.errors]
        root = place(m, "root", ChipRoot(self.config, len(errors)))
        plane_width = bits_for_index(self.config.memory.planes)
        wheres = [Cat(error.port, Const(plane, plane_width), Const(network, 2)) for error, plane, network in errors]
        m.d.comb += [
            root["network_error"].eq(Cat(error.flag for error, *_ in errors)),
            root["network_stage"].eq(Cat(error.stage for error, *_ in errors)),
            root["network_where"].eq(Cat(wheres)),
            root["node_busy"].eq(Cat(node["busy"] for node in nodes)),
            root["node_error"].eq(Cat(node["error"] for node in nodes)),
            root["node_read_data"].eq(Cat(node["host_read_data"] for node in nodes)),
        ]
        for name in chip_members(self.config):
            signal = getattr(self, name)
            inward = name.startswith("host_") and name != "host_read_data"
            m.d.comb += root[name].eq(signal) if inward else signal.eq(root[name])
        for i, node in enumerate(nodes):
            m.d.comb += node["host_valid"].eq(root["node_valid"][i])
            for name in (*COMMANDS, *host_members(self.config)):
                m.d.comb += node[name].eq(root[f"group_{name}"].word_select(i // FANOUT, len(node[name])))
        return m

    def _networks(self, m: Module, nodes: list[dict[str, Any]]) -> list[tuple[NetworkId, int, WritePorts]]:
        config, memory, array = self.config, self.config.memory, self.config.array
        assert config.network is not None
        shape: dict[str, Any] = {"ports": config.pods, "layers": config.network_layers}
        shape |= {"pipeline": config.network.pipeline, "kind": config.network.kind}
        made: list[tuple[NetworkId, int, WritePorts]] = []
        for plane in range(memory.planes):
            for name, words, lanes in (("x", memory.x_words, array.rows), ("w", memory.w_words, array.cols)):
                address = bits_for_index(words)
                sizes: dict[str, Any] = {"payload": address, "data": 8 * lanes, "turnaround": config.bank_latency}
                read = read_network(m, f"{name}_network_{plane}", **sizes, **shape)
                made.append((NetworkId[name.upper()], plane, read))
                for i, node in enumerate(nodes):
                    m.d.comb += [
                        read.valid[i].eq(node[f"{name}_valid"][plane]),
                        read.bank[i].eq(node[f"{name}_bank"]),
                        read.payload[i].eq(node[f"{name}_address"]),
                        node[f"{name}_data"].word_select(plane, 8 * lanes).eq(read.data[i]),
                        node[f"bank_{name}_valid"][plane].eq(read.bank_valid[i]),
                        node[f"bank_{name}_address"].word_select(plane, address).eq(read.bank_payload[i]),
                        read.bank_data[i].eq(node[f"bank_{name}_data"]),
                    ]
            for name, parts in (("p", p_payload_parts(config)), ("y", y_payload_parts(config))):
                payload = sum(parts)
                write = write_network(m, f"{name}_network_{plane}", payload=payload, **shape)
                made.append((NetworkId[name.upper()], plane, write))
                for i, node in enumerate(nodes):
                    m.d.comb += [
                        write.valid[i].eq(node[f"{name}_valid"][plane]),
                        write.bank[i].eq(node[f"{name}_bank"]),
                        write.payload[i].eq(node[f"{name}_payload"]),
                        node[f"bank_{name}_valid"][plane].eq(write.bank_valid[i]),
                        node[f"bank_{name}_payload"].word_select(plane, payload).eq(write.bank_payload[i]),
                    ]
        return made
