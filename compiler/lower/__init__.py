"""TODO compiler/lower."""
