"""TODO rtl/network."""
