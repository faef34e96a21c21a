"""Cycle models of an accelerator: its control, and runs from start to interrupt."""
