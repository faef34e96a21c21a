"""Workloads in RTL and by the exact model, and their verdicts."""
