"""Registers, run control and counters of an accelerator."""
