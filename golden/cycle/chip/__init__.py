"""Cycle models of a chip: banks, networks, post-processors, and exact counts of whole programs."""
