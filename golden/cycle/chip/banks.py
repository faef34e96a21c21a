"""Cycle models of the banks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..ports import PortTrace, wrap


def read_bank(
    *,
    words: int,
    read_valid: NDArray[np.bool_],
    read_address: NDArray[np.int64],
    host_read: NDArray[np.bool_],
    host_write: NDArray[np.bool_],
    host_address: NDArray[np.int64],
    host_data: NDArray[np.int8],
) -> dict[str, PortTrace]:
    """A bank of ``words`` words that only the host writes: one of weights.

    Ports of ``planes`` planes are (cycles, planes), words (cycles, lanes), all others (cycles,).
    """
    planes = (len(host_read), 0)
    ports = written_bank(
        words=words,
        slots=1,
        read_valid=read_valid,
        read_address=read_address,
        write_valid=np.zeros(planes, bool),
        write_slot=np.zeros(planes, np.int64),
        write_address=np.zeros(planes, np.int64),
        write_data=np.zeros(planes, np.int8),
        host_read=host_read,
        host_write=host_write,
        host_address=host_address,
        host_data=host_data,
    )
    return {name: trace for name, trace in ports.items() if name not in ("writes", "hazard")}


def written_bank(
    *,
    words: int,
    slots: int,
    parts: int = 1,
    read_valid: NDArray[np.bool_],
    read_address: NDArray[np.int64],
    write_valid: NDArray[np.bool_],
    write_slot: NDArray[np.int64],
    write_address: NDArray[np.int64],
    write_data: NDArray[np.int8],
    host_read: NDArray[np.bool_],
    host_write: NDArray[np.bool_],
    host_address: NDArray[np.int64],
    host_data: NDArray[np.int8],
) -> dict[str, PortTrace]:
    """A bank of words of ``slots`` slots that the network writes one by one: one of activations.

    ``write_data`` is (cycles, planes * lanes of a slot). With several ``parts``, each a run of as many words, network and host
    only meet in one, and what the host reads has a port of its own.
    """
    cycles, lanes = host_data.shape
    width, depth = lanes // slots, words // parts
    content, written = np.zeros((words, lanes), np.int64), np.zeros((words, lanes), bool)
    # What each part read last, and of whom network and host see it.
    held, certain = np.zeros((parts, lanes), np.int64), np.zeros((parts, lanes), bool)
    shown = {"data": 0} if parts == 1 else {"data": -1, "host_word": -1}
    values = {name: (np.zeros((cycles, lanes), np.int64), np.zeros((cycles, lanes), bool)) for name in shown}
    reads, writes = (valid.sum(axis=1) > 0 for valid in (read_valid, write_valid))
    reader, writer = _lowest(read_valid), _lowest(write_valid)
    hazard = np.zeros(cycles, bool)
    conflict = write_valid.sum(axis=1) > 1
    for t in range(cycles):
        for name, part in shown.items():
            if part >= 0:
                values[name][0][t], values[name][1][t] = held[part], certain[part]
        host = int(host_address[t])
        # By part, the word that is read; the words that are written, which lanes, and what.
        read: dict[int, int] = {}
        targets: dict[int, tuple[int, slice, NDArray]] = {}
        if host_read[t]:
            read[host // depth] = host
        if host_write[t]:
            targets[host // depth] = host, slice(0, lanes), host_data[t]
        if reads[t]:
            address = int(read_address[t, reader[t]])
            conflict[t] |= bool((read_valid[t] & (read_address[t] != address)).any())
            conflict[t] |= parts > 1 and address // depth in read
            hazard[t] = bool(writes[t]) and address == write_address[t, writer[t]]
            read[address // depth] = address
        if writes[t]:
            plane, slot = writer[t], int(write_slot[t, writer[t]])
            address = int(write_address[t, plane])
            conflict[t] |= parts > 1 and address // depth in targets
            # A slot that is not there takes the turn of the host all the same.
            lanes_of = slice(slot * width, (slot + 1) * width) if slot < slots else slice(0, 0)
            data = write_data[t, plane * width : (plane + 1) * width]
            targets[address // depth] = address, lanes_of, data if slot < slots else data[:0]
        for part, address in read.items():
            held[part], certain[part] = content[address], written[address]
            if part in targets and targets[part][0] == address:
                certain[part, targets[part][1]] = False
        for address, lanes_of, data in targets.values():
            content[address, lanes_of], written[address, lanes_of] = data, True
        if parts > 1:
            for name, happens, at in (("data", reads[t], read_address[t, reader[t]]), ("host_word", host_read[t], host)):
                if happens:
                    shown[name] = int(at) // depth
    return {
        **{name: PortTrace(*value) for name, value in values.items()},
        "reads": _certain(reads),
        "writes": _certain(writes),
        "conflict": _certain(conflict),
        "hazard": _certain(hazard),
    }


def p_bank(
    *,
    words: int,
    psum_width: int,
    write_valid: NDArray[np.bool_],
    write_accumulate: NDArray[np.bool_],
    write_address: NDArray[np.int64],
    write_data: NDArray[np.int64],
    read_enable: NDArray[np.bool_],
    read_address: NDArray[np.int64],
    host_write: NDArray[np.bool_],
    host_address: NDArray[np.int64],
    host_data: NDArray[np.int64],
    host_accumulate: NDArray[np.bool_] | None = None,
) -> dict[str, PortTrace]:
    """A bank of ``words`` rows of partial sums. ``write_data`` is (cycles, planes * lanes). ``host_accumulate``: of a bank to which
    the host adds."""
    cycles, lanes = host_data.shape
    content, written = np.zeros((words, lanes), np.int64), np.zeros(words, bool)
    value, known = np.zeros((cycles, lanes), np.int64), np.zeros((cycles, lanes), bool)
    network, plane = write_valid.sum(axis=1) > 0, _lowest(write_valid)
    adds = network & np.take_along_axis(write_accumulate.astype(bool), plane[:, None], axis=1)[:, 0]
    host_adds = np.zeros(cycles, bool) if host_accumulate is None else host_write.astype(bool) & (host_accumulate != 0) & ~network
    takes_port = adds | host_adds
    hazard = np.zeros(cycles, bool)
    # The row that arrived in the cycle before.
    arrived = -1
    for t in range(cycles):
        if read_enable[t]:
            hazard[t] = read_address[t] == arrived
            if t + 1 < cycles:
                address = int(read_address[t])
                value[t + 1] = content[address]
                known[t + 1] = written[address] and not hazard[t] and not takes_port[t]
        arrived = -1
        if network[t]:
            arrived = int(write_address[t, plane[t]])
            data = write_data[t, plane[t] * lanes : (plane[t] + 1) * lanes]
            if adds[t]:
                content[arrived] = wrap(content[arrived] + data, psum_width)
            else:
                content[arrived], written[arrived] = data, True
        elif host_write[t]:
            arrived = int(host_address[t])
            if host_adds[t]:
                content[arrived] = wrap(content[arrived] + host_data[t], psum_width)
            else:
                content[arrived], written[arrived] = host_data[t], True
    return {
        "read_data": PortTrace(value, known),
        "stores": _certain(network & ~adds),
        "accumulates": _certain(adds),
        "conflict": _certain(write_valid.sum(axis=1) > 1),
        "busy_conflict": _certain(read_enable & takes_port),
        "hazard": _certain(hazard),
    }


def _lowest(valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The lowest valid plane in each cycle; 0 with none."""
    return valid.argmax(axis=1) if valid.shape[1] else np.zeros(len(valid), np.int64)


def _certain(value: NDArray) -> PortTrace:
    return PortTrace(value.astype(np.int64), np.ones(len(value), bool))
