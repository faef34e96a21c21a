"""Sweeps by the exact model."""
