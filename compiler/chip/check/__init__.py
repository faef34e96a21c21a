"""TODO compiler/chip/check."""
