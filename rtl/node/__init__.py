"""TODO rtl/node."""
