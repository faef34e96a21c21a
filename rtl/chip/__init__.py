"""TODO rtl/chip."""
