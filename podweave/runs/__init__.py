"""TODO podweave/runs."""
