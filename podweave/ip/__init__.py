"""TODO podweave/ip."""
