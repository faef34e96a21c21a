"""TODO rtl/parts."""
