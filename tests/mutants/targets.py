"""Which tests judge which blocks: those that hold a block, alone or in its parent, against its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


def _named(*kinds: str) -> dict[str, str]:
    """Kinds whose modules have the kind as their name, or behind it a variant that begins with a digit."""
    return {kind: rf"{kind}(_\d.*)?" for kind in kinds}


@dataclass(frozen=True)
class Target:
    """Parameters
    ----------
    kinds : mapping of str to str
        As of `Campaign`.
    tests : sequence of str
        Arguments of pytest.
    quick : sequence of str
        Those that judge mutants, if not all do: one configuration is enough for the modules that it has.
    share : float
        Of ``--count``: blocks that are little but wires have few mutants that differ.
    """

    kinds: Mapping[str, str]
    tests: Sequence[str]
    quick: Sequence[str] = ()
    share: float = 1.0


_PREFETCH = "tests/rtl/prefetch/test_prefetch_lockstep.py"

TARGETS = {
    "p_bank": Target(_named("p_bank"), ["tests/rtl/node/test_p_bank.py", "-k", "4_lanes_planes2_links or host_adds"]),
    "read_bank": Target(
        {"x_bank": r"x_bank_.*"},
        ["tests/rtl/node/test_read_bank.py", "-k", "lockstep and x_8x4_planes2_2_parts4 or different_parts"],
    ),
    "w_bank": Target({"w_bank": r"w_bank_.*"}, ["tests/rtl/node/test_read_bank.py", "-k", "lockstep and w_4x4_planes4"]),
    "feeder": Target({"feeder": r"\w+_feeder_.*"}, ["tests/rtl/node/test_feeder.py"]),
    "statistics": Target(_named("statistics_network"), ["tests/rtl/network/test_statistics.py", "-k", "4"]),
    "networks": Target(
        {kind: f"{kind}_.*" for kind in ("read_butterfly", "write_butterfly", "read_crossbar", "write_crossbar")},
        [
            *("tests/rtl/network/test_network.py", "tests/rtl/network/test_first_conflicts.py"),
            *("-k", "lockstep and block or by_hand or each_reset"),
        ],
    ),
    "sequencer": Target(
        {"sequencer": "sequencer_.*"},
        ["tests/rtl/chip/test_chip.py", "tests/rtl/chip/test_sequencer.py", "-k", "sequencer or replaces_it or costs_no_cycle"],
    ),
    "run_control": Target(
        _named("run_control", "performance", "node_window"),
        [
            *("tests/rtl/control/test_run_control.py", "tests/rtl/control/test_long_runs.py"),
            *("-k", "not links and not collective"),
        ],
    ),
    "csr": Target(_named("csr"), ["tests/rtl/control/test_csr.py", "-k", "registers or traffic"]),
    "link_port": Target(_named("link_port", "flit_crc"), ["tests/rtl/link/test_link_port.py", "-k", "4_1 or crc or same_number"]),
    "collective_engine": Target(
        _named("collective_engine", "link_sender"),
        [
            *("tests/rtl/link/test_collective_engine.py", "tests/rtl/link/test_engine_limits.py"),
            *("-k", "lockstep and 4_1 and not row or limits"),
        ],
    ),
    "job_walkers": Target(_named("send_job_walker", "receive_job_walker"), ["tests/rtl/link/test_job_walker.py"]),
    "stray_jobs": Target(_named("stray_jobs"), ["tests/rtl/link/test_stray_jobs.py", "-k", "4"]),
    "pod": Target(
        _named("pod", "load_job_queue", "stream_job_queue", "accumulator"),
        [
            *("tests/rtl/pod/test_job_queue.py", "tests/rtl/pod/test_counts.py", "tests/rtl/pod/test_pod.py", "-k"),
            "(test_job_queue or test_counts or jobs or every_error or overflow or clears or tiles) and "
            "not (1x1 or 1x9 or 4x8 or 6x2 or 8x4 or without_tiles or of_tiles or field)",
        ],
    ),
    "engines": Target(_named("load_engine", "stream_engine"), ["tests/rtl/pod/test_engines.py"]),
    "array": Target(
        _named("array", "array_row", "array_group", "group_column"),
        ["tests/rtl/pod/test_array.py", "-k", "test_array_lockstep and 16x8_of_2x4"],
    ),
    "post": Target(
        _named("post_processor", "post_engine", "post_job_queue", "requantizer"),
        [
            *("tests/rtl/post/test_post_counts.py", "tests/rtl/post/test_requantizer.py", "tests/rtl/post/test_post_processor.py"),
            *("-k", "each_bit or emitted and zero or 4x12_lanes2_zero or every_error_is and not row and not scalar"),
        ],
    ),
    "rows": Target(
        _named("row_registers", "row_statistic", "combiner"),
        [
            *("tests/rtl/post/test_combiner.py", "tests/rtl/post/test_row_statistic.py", "tests/rtl/post/test_row_registers.py"),
            *("tests/rtl/post/test_post_processor.py", "-k"),
            "test_combiner or test_row_statistic or test_row_registers or jobs and rows_8x4_lanes2_psum24_even",
        ],
    ),
    "prefetch": Target(
        _named("prefetch_engine", "realigner", "word_queue"),
        [_PREFETCH, "tests/rtl/prefetch/test_column_stores.py"],
        quick=[
            _PREFETCH,
            "-k",
            "64_small or stop_with or rings_wrap or late_epochs or that_fails or any_byte or end_anywhere or any_number",
        ],
    ),
    **{
        part: Target(_named(part), [f"tests/rtl/prefetch/test_{part}.py"])
        for part in ("burst_issuer", "descriptor_gate", "descriptor_reader")
    },
    "walkers": Target(_named("piece_walker", "column_walker", "column_buffer"), ["tests/rtl/prefetch/test_walkers.py"]),
    "descriptor_check": Target(_named("descriptor_check"), ["tests/rtl/prefetch/test_descriptor_check.py"]),
    "prefetch_count": Target(_named("prefetch_count"), ["tests/rtl/prefetch/test_prefetch_count.py"]),
    "channels": Target(_named("read_tracker", "store_path"), ["tests/rtl/prefetch/test_channels.py"]),
    "counters": Target(_named("counters"), ["tests/rtl/node/test_node_counters.py"]),
    "chip_root": Target(_named("chip_root"), ["tests/rtl/chip/test_chip_root.py"]),
    "node": Target(
        _named("node"),
        [
            *("tests/rtl/chip/test_chip.py", "tests/rtl/node/test_node_accesses.py"),
            *("-k", "2x4-port or 2x4-backdoor or say_what_and_where or read_back or words_of_the_host"),
        ],
    ),
    "trees": Target(_named("link_tree", "load_tree"), ["tests/rtl/node/test_trees.py"]),
}
