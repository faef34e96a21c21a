"""TODO podweave/driver."""
