"""TODO golden/cycle/memory."""
