"""Cycle models of links between chips, and of collectives."""
