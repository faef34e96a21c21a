"""Exact cycles and counters of what the compiler made, without RTL."""
