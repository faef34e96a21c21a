"""TODO podweave/reports."""
