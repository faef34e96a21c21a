"""TODO podweave/studies."""
