"""Proofs: contracts of blocks as properties, solvers, and faults that each property must find."""
