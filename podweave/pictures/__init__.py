"""TODO podweave/pictures."""
