"""TODO podweave/cli."""
