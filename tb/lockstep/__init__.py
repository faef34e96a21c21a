"""TODO tb/lockstep."""
