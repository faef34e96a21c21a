"""Graphs on a chip: mapping, scheduling, epochs."""
