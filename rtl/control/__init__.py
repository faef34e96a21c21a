"""TODO rtl/control."""
