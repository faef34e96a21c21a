"""TODO golden/cycle/prefetch."""
