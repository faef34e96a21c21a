"""Stimulus: random and directed."""
