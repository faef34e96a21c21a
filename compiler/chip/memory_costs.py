"""What the memory's part in a mapping costs it: cycles in which engines bring words and jobs."""

from __future__ import annotations

from podweave.spec.descriptors import memory_stride
from podweave.spec.load_port import HostSelect

from .operation_plan import OperationPlan
from .state import SchedulerState

_CUT, _POSTS = 4.0, 2.0
"""In networks that are cut, how often a byte counts, and how often more one of a job that sends activations: what is chosen for one
operation, those before and behind it pay for as well."""


def byte_weight(state: SchedulerState) -> float:
    """How often a byte that is loaded counts."""
    return _CUT if state.strips else 1.0


def memory_costs(state: SchedulerState, plan: OperationPlan) -> dict[str, float]:
    """The costs of `Work`, of an operation; none where nothing is loaded, or all must fit."""
    config = state.config
    if state.policy.must_fit or config.prefetch is None:
        return {}
    width = config.managers * (config.host_bits // 8) / state.policy.traffic
    stream, load = (memory_stride(config, select) for select in (HostSelect.STREAM_STORE, HostSelect.LOAD_STORE))
    tile = config.array.rows * memory_stride(config, HostSelect.W)
    units = [unit for operand in plan.lowering.operands for unit in operand.units]
    # What is loaded of a stored tensor in some channel of the memory has been stored there.
    external = sum((not unit.is_computed) + unit.is_stored for unit in units) / len(units)
    costs = {"job_cost": stream + load, "tile_cost": tile, "input_cost": memory_stride(config, HostSelect.X) * external}
    if state.policy.traffic > 1:
        costs["set_cost"] = memory_stride(config, HostSelect.PARAMETERS)
    if state.strips:
        costs["post_cost"] = _POSTS * memory_stride(config, HostSelect.POST_STORE)
        if config.pod.tile_width:
            costs |= {"job_cost": 0, "joined_cost": stream, "load_cost": load}
    return {name: size * byte_weight(state) / width for name, size in costs.items()}
