"""Chip: nodes, the networks between them, a root, and a load port for each manager."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module
from amaranth.lib.wiring import In, Out

from podweave.spec.config import ChipConfig
from podweave.spec.errors import NetworkId, network_error_layout
from podweave.spec.layout import bits_for_index

from ..network.conflicts import NetworkError
from ..network.network import WritePorts, read_network, write_network
from ..network.statistics import StatisticsNetwork
from ..node.link_tree import LinkTree
from ..node.load_port_tree import LoadPortTree
from ..node.node import Node, p_payload_parts, y_payload_parts
from ..parts.blocks import place
from ..parts.fanout import FANOUT
from ..parts.link_access import link_access_members, link_members
from ..parts.load_port import access_members, load_port_members
from ..parts.wired_block import WiredBlock
from .chip_root import COMMANDS, ChipRoot, root_members


class Chip(WiredBlock):
    """``pods`` nodes; X and W read networks and P and Y write networks, each in its planes; a root with the sequencer; load ports.

    An epoch begins with ``fill`` in cycle t (for the first epoch, t - 1 is that of the start) and has ``run`` from cycle
    t + `FILL_CYCLES` on, both at the sequencer; at the nodes ``host_levels`` cycles later. Its time 0 is the cycle after the first
    one with ``run`` at the nodes. If T is the epoch time of the last cycle in which a node is busy, ``cycles`` is
    T + `ChipConfig.epoch_overhead`; at its end all words are in their banks.

    The ports of all managers lie side by side, manager 0 least significant; manager m has ``nodes_per_manager`` nodes, from
    m * ``nodes_per_manager`` on. X and P banks are only accessed while no epoch is on; program stores, parameters, tables and W
    banks also meanwhile, where no job of the epoch reads.

    A word goes through ``host_data`` and ``host_read_data`` in beats of ``host_bits``, beat 0 least significant. A node keeps the
    beats written; with ``host_commit``, all kept beats and this one become the word.

    With links, the collective engine reaches X and P banks, whole words at once: while no epoch is on, and no access of a load
    port to an X or P bank is under way. A word may be stored or added in each cycle, the same word too. An X word that is written
    in cycle t may be read from t + 1 on, a P word from t + 2 on.

    Latency: `ChipConfig.host_read_latency` cycles from a host read to ``host_read_data``, `ChipConfig.link_read_latency` from one
    of the collective engine to ``link_read_data``.

    Parameters
    ----------
    config : ChipConfig
        The whole chip.

    Members
    -------
    host_valid : In(managers)
        An access, at most one per cycle and manager.
    host_write : In(managers)
        It writes (1) or reads (0).
    host_commit : In(managers)
        The beats become the word.
    host_select : In(managers * bits_for_index(len(HostSelect)))
        What of the node it is to, a `HostSelect`.
    host_unit : In(managers * bits_for_index(nodes_per_manager))
        The node of the manager.
    host_broadcast : In(managers)
        For all nodes of the manager; a read with it returns the OR of their words.
    host_address : In(managers * host_address_width(config))
        The word.
    host_beat : In(managers * host_beat_width(config))
        The beat to read or to write.
    host_data : In(managers * host_bits)
        The beat written.
    host_read_data : Out(managers * host_bits)
        The beat of a read `ChipConfig.host_read_latency` cycles later; 0 in all other cycles.
    link_valid : In(1)
        Only with links, as all ``link_*``: an access of the collective engine.
    link_write, link_add : In(1), In(1)
        It writes (1) or reads (0); a word of a P bank that is written is added to what is there, modulo ``2**psum_width`` per lane.
    link_kind : In(1)
        A `CollectiveKind`: which bank.
    link_unit : In(bits_for_index(pods))
        The node.
    link_address : In(bits_for_index(max(x_words, p_words)))
        The word.
    link_data : In(link_bits)
        What is written; bits beyond the width of the word do not matter.
    link_read_data : Out(link_bits)
        The word of a read `ChipConfig.link_read_latency` cycles later, with zeros above; 0 in all other cycles.
    start, epochs, hold : In(1), In(32), In(1)
        As of the `Sequencer`; a start clears the counters of the nodes.
    rewind : In(1)
        The next epoch begins at word 0 of all program stores; ignored while ``busy``.
    busy, cycles, total_cycles, done : Out(1), Out(32), Out(32), Out(32)
        As of the `Sequencer`.
    error : Out(1)
        A node or a network has an error, until reset; the epoch ends and no other begins.
    network_error : Out(network_error_layout(config).width)
        The first conflict in a network, a word of `network_error_layout`; 0 if there was none.
    """

    kind = "chip"

    def __init__(self, config: ChipConfig):
        self.config = config
        super().__init__({**port_members(config), **root_members(config)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        nodes = [place(m, f"node_{i}", Node(self.config)) for i in range(self.config.pods)]
        errors = [(error, plane, network) for network, plane, ports in self._networks(m, nodes) for error in ports.errors]
        if self.config.has_rows:
            errors.append((self._statistics(m, nodes), 0, NetworkId.STATISTICS))
        self._root(m, nodes, errors)
        for manager in range(self.config.managers):
            first = manager * self.config.nodes_per_manager
            self._load_port(m, manager, nodes[first : first + self.config.nodes_per_manager])
        if self.config.links:
            self._link_port(m, nodes)
        return m

    def _root(self, m: Module, nodes: list[dict[str, Any]], errors: list[tuple[NetworkError, int, NetworkId]]) -> None:
        root = place(m, "root", ChipRoot(self.config, len(errors)))
        plane_width = bits_for_index(max(self.config.memory.planes.values()))
        network_width = next(f.width for f in network_error_layout(self.config).fields if f.name == "network")
        wheres = [Cat(error.port, Const(plane, plane_width), Const(network, network_width)) for error, plane, network in errors]
        if errors:
            m.d.comb += [
                root["conflict_valid"].eq(Cat(error.flag for error, *_ in errors)),
                root["conflict_stage"].eq(Cat(error.stage for error, *_ in errors)),
                root["conflict_where"].eq(Cat(wheres)),
            ]
        m.d.comb += [
            root["node_busy"].eq(Cat(node["busy"] for node in nodes)),
            root["node_error"].eq(Cat(node["error"] for node in nodes)),
        ]
        for name, member in root_members(self.config).items():
            signal = getattr(self, name)
            m.d.comb += signal.eq(root[name]) if member.flow is Out else root[name].eq(signal)
        for i, node in enumerate(nodes):
            m.d.comb += [node[name].eq(root[f"group_{name}"][i // FANOUT]) for name in COMMANDS]

    def _load_port(self, m: Module, manager: int, nodes: list[dict[str, Any]]) -> None:
        tree = place(m, f"load_tree_{manager}", LoadPortTree(self.config))
        for name, width in load_port_members(self.config).items():
            m.d.comb += tree[name].eq(getattr(self, name).word_select(manager, width))
        m.d.comb += [
            self.host_read_data.word_select(manager, self.config.host_bits).eq(tree["host_read_data"]),
            tree["node_read_data"].eq(Cat(node["host_read_data"] for node in nodes)),
        ]
        for i, node in enumerate(nodes):
            m.d.comb += node["host_valid"].eq(tree["node_valid"][i])
            for name, width in access_members(self.config).items():
                m.d.comb += node[name].eq(tree[f"group_{name}"].word_select(i // FANOUT, width))

    def _link_port(self, m: Module, nodes: list[dict[str, Any]]) -> None:
        groups = [nodes[first : first + FANOUT] for first in range(0, len(nodes), FANOUT)]
        trees = [place(m, f"link_tree_{i}", LinkTree(self.config, len(group), 1)) for i, group in enumerate(groups)]
        for tree, group in zip(trees, groups, strict=True):
            self._link_level(m, tree, group)
        if len(trees) > 1:
            above = place(m, "link_tree", LinkTree(self.config, len(trees), FANOUT))
            m.d.comb += [tree["link_unit"].eq(above["child_unit"]) for tree in trees]
            self._link_level(m, above, trees)
            trees = [above]
        m.d.comb += [trees[0][name].eq(getattr(self, name)) for name in link_members(self.config)]
        m.d.comb += self.link_read_data.eq(trees[0]["link_read_data"])

    def _link_level(self, m: Module, tree: dict[str, Any], children: list[dict[str, Any]]) -> None:
        """Between a tree and the nodes or trees below it."""
        m.d.comb += tree["child_read_data"].eq(Cat(child["link_read_data"] for child in children))
        for i, child in enumerate(children):
            m.d.comb += child["link_valid"].eq(tree["child_valid"][i])
            m.d.comb += [child[name].eq(tree[name.replace("link_", "child_")]) for name in link_access_members(self.config)]

    def _networks(self, m: Module, nodes: list[dict[str, Any]]) -> list[tuple[NetworkId, int, WritePorts]]:
        config, memory, array = self.config, self.config.memory, self.config.array
        shape: dict[str, Any] = {"ports": config.pods, "layers": config.network_layers}
        shape |= {"pipeline": config.network.pipeline, "kind": config.network.kind}
        made: list[tuple[NetworkId, int, WritePorts]] = []
        for plane in range(max(memory.planes.values())):
            for name, words, lanes in (("x", memory.x_words, array.rows), ("w", memory.w_words, array.cols)):
                if plane >= memory.planes[name]:
                    continue
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
                if plane >= memory.planes[name]:
                    continue
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

    def _statistics(self, m: Module, nodes: list[dict[str, Any]]) -> NetworkError:
        network = place(m, "statistics_network", StatisticsNetwork(self.config.pods))
        for port, name in (("valid", "sent"), *((part, f"sent_{part}") for part in ("statistic", "level", "value", "element"))):
            m.d.comb += network[port].eq(Cat(node[name] for node in nodes))
        for name in ("total", "place"):
            width = len(network[name]) // len(nodes)
            m.d.comb += [node[name].eq(network[name].word_select(i, width)) for i, node in enumerate(nodes)]
        return NetworkError(network["error"], network["error_stage"], network["error_port"])


def port_members(config: ChipConfig) -> dict[str, Any]:
    """The load ports of all managers, side by side, and the port for the collective engine."""
    ports: dict[str, Any] = {name: In(config.managers * width) for name, width in load_port_members(config).items()}
    ports["host_read_data"] = Out(config.managers * config.host_bits)
    if config.links:
        ports |= {name: In(width) for name, width in link_members(config).items()}
        ports["link_read_data"] = Out(config.link_bits)
    return ports
