"""TODO tb/benches."""
