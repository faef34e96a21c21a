"""TODO golden/cycle/chip."""
