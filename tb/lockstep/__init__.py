"""Port values of a simulation against what is expected of them, cycle by cycle."""
