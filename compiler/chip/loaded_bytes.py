"""About how many bytes engines load for an epoch, before all of its jobs are known."""

from __future__ import annotations

from podweave.spec.descriptors import memory_stride
from podweave.spec.load_port import HostSelect

from .state import SchedulerState


def loaded_bytes(state: SchedulerState) -> int:
    """Of words that operations have got so far, and of jobs, as many as there are when those of successive tiles are one."""
    words = {
        HostSelect.W: sum(state.storage.filled["w"]),
        HostSelect.X: sum(item.region.words for item in state.external_units),
        HostSelect.PARAMETERS: len(state.parameters),
        HostSelect.POST_STORE: len(state.book.posts),
        HostSelect.STREAM_STORE: state.book.gangs.joined_streams,
        HostSelect.LOAD_STORE: state.book.gangs.pods,
    }
    return sum(count * memory_stride(state.config, select) for select, count in words.items())
