"""Cycle models of the prefetch engine."""
