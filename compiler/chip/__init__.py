"""TODO compiler/chip."""
