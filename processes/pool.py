"""A pool of processes that does not outlive who uses it."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection


@contextmanager
def pool_of(processes: int) -> Iterator[ProcessPoolExecutor]:
    """In the ``with`` body, a pool of so many processes. They are spawned, and nobody waits for them if the body fails."""
    # The terminal's status line is a thread, and a fork may copy its locks while they are held.
    context, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_end_with_parent) as pool:
        try:
            yield pool
        except BaseException:
            # What is under way may take minutes more.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            raise


def _end_with_parent() -> None:
    """In a process of the pool: it ends with the one that started it, also if that is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
