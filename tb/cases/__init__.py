"""TODO tb/cases."""
