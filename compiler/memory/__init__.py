"""TODO compiler/memory."""
