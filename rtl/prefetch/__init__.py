"""TODO rtl/prefetch."""
