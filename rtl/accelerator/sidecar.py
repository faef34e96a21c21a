"""What an emitted design says of itself beside its ports and modules: configuration, layouts, codes, latencies, registers."""

from __future__ import annotations

import enum
from typing import Any

from podweave.spec.config import ChipConfig
from podweave.spec.config_parts import FILL_CYCLES
from podweave.spec.descriptors import DescriptorKind, PrefetchError, descriptor_layout, loadable, memory_stride
from podweave.spec.errors import BankError, NetworkId, NodeErrors, PodError, PostError, network_error_layout
from podweave.spec.jobs import (
    Accumulate,
    Emit,
    Reduce,
    load_job_layout,
    post_job_layout,
    post_parameters_layout,
    store_layout,
    stream_job_layout,
)
from podweave.spec.layout import Layout
from podweave.spec.links import (
    CollectiveKind,
    FlitKind,
    LinkError,
    flit_user_layout,
    head_layout,
    receive_job_layout,
    send_job_layout,
    word_flits,
)
from podweave.spec.load_port import Counter, HostSelect, host_widths
from podweave.spec.register_list import register_list
from podweave.spec.register_types import MANAGER_PITCH, WORD_WIDTH, ErrorSource, NodeWords, Refusal, Register, Ring, address_width
from podweave.spec.row_functions import SCALAR_CYCLES, Combine, Destination, Saturate, Scalar, Statistic

from .accelerator import manager_prefix


def describe(config: ChipConfig, top: str) -> dict[str, Any]:
    """JSON-ready facts of a configuration that is emitted as a chip or an accelerator."""
    sidecar: dict[str, Any] = {
        "generator": "podweave",
        "config": config.to_dict(),
        "latency": {
            "memory": config.read_latency,
            "array": config.array.latency,
            "request_to_write": config.write_latency,
        },
        "layouts": [_layout(load_job_layout(config)), _layout(stream_job_layout(config))],
        "codes": _codes(Accumulate, Emit),
        "errors": {error.name: error.value for error in PodError},
    }
    _add_chip(config, sidecar)
    if top == "accelerator":
        _add_accelerator(config, sidecar)
    return sidecar


def _add_chip(config: ChipConfig, sidecar: dict[str, Any]) -> None:
    """What a chip has beside its pods."""
    jobs = [load_job_layout(config), stream_job_layout(config), post_job_layout(config)]
    others = [post_parameters_layout(config), *map(store_layout, jobs), network_error_layout(config)]
    sidecar["layouts"] += [_layout(layout) for layout in (jobs[2], *others)]
    sidecar["codes"] |= _codes(Reduce, HostSelect, Counter, NodeErrors, NetworkId)
    if config.has_rows:
        sidecar["codes"] |= _codes(Combine, Saturate, Destination, Statistic, Scalar)
    sidecar["post_errors"] = {error.name: error.value for error in PostError}
    sidecar["bank_errors"] = {error.name: error.value for error in BankError}
    words = {
        select.name: {"address_width": address, "data_width": width} for select, (address, width) in host_widths(config).items()
    }
    sidecar["host"] = {"ports": config.managers, "beat_width": config.host_bits, "words": words}
    sidecar["latency"] |= {
        "network": config.network_latency,
        "bank": config.bank_latency,
        "post": config.post_latency,
        "host_read": config.host_read_latency,
        "fill": FILL_CYCLES,
        "epoch_overhead": config.epoch_overhead,
        **({"statistic": config.statistic_latency, "scalar": SCALAR_CYCLES} if config.has_rows else {}),
    }


def _add_accelerator(config: ChipConfig, sidecar: dict[str, Any]) -> None:
    """Its AXI ports, registers, and words in memory."""
    prefetch, nodes = config.prefetch, config.nodes_per_manager
    assert prefetch is not None
    sidecar["layouts"].append(_layout(descriptor_layout()))
    sidecar["codes"] |= _codes(DescriptorKind, PrefetchError, Refusal, ErrorSource, NodeWords, Ring)
    sidecar["memory_strides"] = {select.name: memory_stride(config, select) for select in loadable(config)}
    sidecar["axi"] = {
        "subordinate": {"prefix": "s_axil_", "address_width": address_width(config.managers), "data_width": WORD_WIDTH},
        "managers": [
            {
                "prefix": manager_prefix(i),
                "address_width": prefetch.address_width,
                "data_width": prefetch.data_width,
                "id_width": 1,
                "nodes": [i * nodes, (i + 1) * nodes - 1],
            }
            for i in range(prefetch.managers)
        ],
    }
    if config.links:
        _add_links(config, sidecar)
    sidecar["registers"] = {"manager_pitch": MANAGER_PITCH, "list": [_register(register) for register in register_list(config)]}


def _add_links(config: ChipConfig, sidecar: dict[str, Any]) -> None:
    """Its ports to the neighbours in a ring, what goes over them, and jobs of collectives."""
    assert config.links is not None
    layouts = (send_job_layout(config), receive_job_layout(config), head_layout(), flit_user_layout())
    sidecar["layouts"] += [_layout(layout) for layout in layouts]
    sidecar["codes"] |= _codes(CollectiveKind, FlitKind, LinkError)
    sidecar["latency"]["link_read"] = config.link_read_latency
    sidecar["links"] = {
        "transmit": {"prefix": "link_tx_"},
        "receive": {"prefix": "link_rx_"},
        "flit_bits": config.links.flit_bits,
        "buffer_words": config.links.buffer_words,
        "jobs": config.links.jobs,
        "word_flits": {kind.name: word_flits(config, kind) for kind in CollectiveKind},
    }


def _register(register: Register) -> dict[str, Any]:
    fields = [
        {"name": f.name, "low": f.low, "width": f.width, "reset": f.value, "codes": f.codes and f.codes.__name__, "doc": f.doc}
        for f in register.fields
    ]
    return {
        "name": register.name,
        "offset": register.offset,
        "words": register.words,
        "managers": register.managers,
        "access": register.access.value,
        "locked": register.locked,
        "doc": register.doc,
        "fields": fields,
    }


def _codes(*kinds: type[enum.IntEnum]) -> dict[str, dict[str, int]]:
    return {kind.__name__: {code.name: code.value for code in kind} for kind in kinds}


def _layout(layout: Layout) -> dict[str, Any]:
    fields = [
        {"name": f.name, "offset": layout.offset(f.name), "width": f.width, "signed": f.signed, "doc": f.doc} for f in layout.fields
    ]
    return {"name": layout.name, "width": layout.width, "fields": fields}
