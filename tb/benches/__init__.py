"""Test benches: what goes into a simulation and what comes out."""
