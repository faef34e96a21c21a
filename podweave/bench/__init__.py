"""TODO podweave/bench."""
