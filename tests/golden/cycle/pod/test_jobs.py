"""golden.cycle.pod.jobs: epoch times, queues, start times and weight hand-over, cycle by cycle by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from podweave.golden.cycle.pod.jobs import ERRORS, PodGeometry, Pushes, Service, epoch_time, hand_over, serve


def bits(text: str) -> NDArray[np.bool_]:
    return np.array([c == "1" for c in text])


@pytest.mark.parametrize(
    ("run", "width", "times"),
    [
        ("0000", 8, [0, 0, 0, 0]),
        ("1111", 8, [0, 1, 2, 3]),
        ("0011", 8, [0, 0, 0, 1]),
        # The cycle in which `run` falls still shows the time that would have come next.
        ("011100", 8, [0, 0, 1, 2, 3, 0]),
        ("0110110", 8, [0, 0, 1, 2, 0, 1, 2]),
        ("111111", 2, [0, 1, 2, 3, 0, 1]),
    ],
)
def test_epoch_time(run: str, width: int, times: list[int]) -> None:
    assert epoch_time(bits(run), width).tolist() == times


def test_psum_delay_by_hand() -> None:
    sizes = dict.fromkeys(PodGeometry.__dataclass_fields__, 4)
    # 5 cycles of memory, 2 groups down, 3 groups right.
    assert PodGeometry(**sizes | {"latency": 5, "row_groups": 2, "col_groups": 3}).psum_delay == 10
    assert len(set(ERRORS)) == 13


def served(
    jobs: list[tuple[int, int, int]],
    *,
    run: str = "00" + "1" * 18,
    depth: int = 4,
    illegal: tuple[int, ...] = (),
    halt: int | None = None,
) -> Service:
    """``jobs``: (cycle of the push, start time, words) each."""
    cycle, start, words = (np.array(column, np.int64) for column in zip(*jobs, strict=True))
    legal = np.array([job not in illegal for job in range(len(jobs))])
    return serve(
        Pushes(cycle, {"start": start}),
        name="load",
        depth=depth,
        words=words,
        legal=legal,
        run=bits(run),
        halt=len(run) if halt is None else halt,
    )


def summary(service: Service) -> tuple[list[tuple[int, int]], dict[str, list[int]]]:
    """((job, cycle in which it begins) ..., events that happened)."""
    begun = list(zip(service.job.tolist(), service.begin.tolist(), strict=True))
    return begun, {name: cycles.tolist() for name, cycles in service.events.items() if len(cycles)}


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        # `run` rises in cycle 2, so time s is cycle 3 + s, and a job begins the cycle before.
        ([(0, 3, 2)], ([(0, 5)], {})),
        ([(0, 0, 1)], ([(0, 2)], {})),
        # The next may begin at the last word of the one before, not sooner.
        ([(0, 3, 2), (1, 5, 1)], ([(0, 5), (1, 7)], {})),
        ([(0, 3, 2), (1, 9, 1)], ([(0, 5), (1, 11)], {})),
        # Due in cycle 6, while the engine is busy with words of cycles 6 and 7: found in cycle 7, when its time has passed.
        ([(0, 3, 2), (1, 4, 1)], ([(0, 5)], {"late_load": [7]})),
        # Behind a job that begins in cycle 7, one that was due in cycle 5 is at the head from cycle 8 on.
        ([(0, 5, 1), (1, 3, 1)], ([(0, 7)], {"late_load": [8]})),
        # A push is at the head one cycle later: that of cycle 4 is just in time, that of cycle 5 is not.
        ([(4, 3, 2)], ([(0, 5)], {})),
        ([(5, 3, 2)], ([], {"late_load": [6]})),
        ([(9, 3, 2)], ([], {"late_load": [10]})),
        # After an error nothing begins any more, and nothing else is found.
        ([(5, 3, 2), (6, 10, 1), (7, 0, 1)], ([], {"late_load": [6]})),
    ],
)
def test_serve(jobs: list[tuple[int, int, int]], expected: tuple[list[tuple[int, int]], dict[str, list[int]]]) -> None:
    assert summary(served(jobs)) == expected


def test_illegal_job_stays_in_the_queue() -> None:
    service = served([(0, 1, 2), (1, 4, 1), (2, 6, 1)], illegal=(1,))
    assert summary(service) == ([(0, 3)], {"illegal_load": [6]})
    assert service.level.tolist() == [0, 1, 2, 3] + [2] * 16


def test_level_counts_from_the_cycle_after_a_push_to_that_of_a_pop() -> None:
    service = served([(0, 3, 2), (4, 5, 1)])
    assert service.begin.tolist() == [5, 7]
    assert service.level.tolist() == [0, 1, 1, 1, 1, 2, 1, 1] + [0] * 12


@pytest.mark.parametrize(
    ("third_push", "expected"),
    [
        # Two places, taken until job 0 leaves in cycle 7: its place is free the cycle after.
        (2, ([(0, 7), (1, 9)], {"load_overflow": [2]})),
        (7, ([(0, 7), (1, 9)], {"load_overflow": [7]})),
        (8, ([(0, 7), (1, 9), (2, 14)], {})),
    ],
)
def test_overflow(third_push: int, expected: tuple[list[tuple[int, int]], dict[str, list[int]]]) -> None:
    assert summary(served([(0, 5, 2), (1, 7, 1), (third_push, 12, 1)], depth=2)) == expected


def test_lost_push_does_not_take_a_place() -> None:
    service = served([(0, 5, 1), (1, 6, 1), (2, 7, 1), (3, 7, 1), (9, 12, 1)], depth=2)
    assert summary(service) == ([(0, 7), (1, 8), (4, 14)], {"load_overflow": [2, 3]})
    assert service.level.max() == 2


@pytest.mark.parametrize(
    ("halt", "expected"),
    [
        (4, ([], {})),
        (5, ([(0, 5)], {})),
        (6, ([(0, 5)], {})),
        (7, ([(0, 5)], {"late_load": [7]})),
    ],
)
def test_nothing_happens_after_the_halt(halt: int, expected: tuple[list[tuple[int, int]], dict[str, list[int]]]) -> None:
    assert summary(served([(0, 3, 2), (1, 4, 1)], halt=halt)) == expected


def test_illegal_job_after_the_halt_is_not_found() -> None:
    assert summary(served([(0, 3, 2)], illegal=(0,), halt=4)) == ([], {})
    assert summary(served([(0, 3, 2)], illegal=(0,), halt=5)) == ([], {"illegal_load": [5]})


@pytest.mark.parametrize(
    ("run", "start", "expected"),
    [
        # Cycles 2 to 4 and 7 to 13: time 3 is not reached in the first epoch and is that of cycle 11 in the second.
        ("00111001111111", 3, ([(0, 10)], {})),
        ("00111001111111", 2, ([(0, 4)], {})),
        ("00111001111111", 9, ([], {})),
        ("00000000000000", 0, ([], {})),
    ],
)
def test_job_waits_for_an_epoch_that_lasts(run: str, start: int, expected: tuple[list, dict]) -> None:
    assert summary(served([(0, start, 1)], run=run)) == expected


def test_job_that_an_epoch_ends_on_waits_for_the_next() -> None:
    # Cycles 2 to 6 and 9 to 19. Due in cycle 6 while the engine is busy until 7: late would show in cycle 7, too late to count.
    service = served([(0, 3, 2), (1, 4, 1)], run="00" + "1" * 5 + "00" + "1" * 11)
    assert summary(service) == ([(0, 5), (1, 13)], {})


@pytest.mark.parametrize(
    ("loads", "rows", "swaps", "not_loaded", "overwritten"),
    [
        # Four rows from a load that begins in cycle 0 are complete for a swap of cycle 4.
        ([0], [4], [4], [], []),
        ([0], [4], [3], [3], []),
        ([0], [4], [9], [], []),
        ([], [], [5], [5], []),
        ([0], [4], [], [], []),
        # A swap consumes them.
        ([0], [4], [4, 8], [8], []),
        # The next load may begin in the cycle of the swap, not before.
        ([0, 4], [4, 4], [4, 8], [], []),
        # That the weights were overwritten is said once: the swap after it finds those that were complete before.
        ([0, 6], [4, 4], [7], [], [6]),
        ([0, 4], [4, 4], [8], [], [4]),
        # A load that begins after a swap and completes later does not help the swap before.
        ([0, 5], [4, 3], [4, 7, 8], [7], []),
        # One row is complete the cycle after.
        ([0, 1, 2], [1, 1, 1], [1, 2, 3], [], []),
        ([0], [1], [0], [0], []),
    ],
)
def test_hand_over(loads: list[int], rows: list[int], swaps: list[int], not_loaded: list[int], overwritten: list[int]) -> None:
    found = hand_over(*(np.array(column, np.int64) for column in (loads, rows, swaps)))
    assert {name: cycles.tolist() for name, cycles in found.items()} == {
        "weights_not_loaded": not_loaded,
        "weights_overwritten": overwritten,
    }
