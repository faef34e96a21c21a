"""Cases of campaigns without simulators."""

from __future__ import annotations

import pytest

from podweave.fuzz import file_kind, graph_kinds, table_kind

from .stand_in import Runs


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    found = Runs()
    monkeypatch.setattr(graph_kinds, "run_jobs", found)
    monkeypatch.setattr(graph_kinds, "NETWORKS", (1, 3))
    for module, names in (
        (graph_kinds, ("chip_bench", "accelerator_bench", "system_bench")),
        (table_kind, ("chip_bench",)),
        (file_kind, ("accelerator_bench",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, lambda config, *more: "bench")
    return found
