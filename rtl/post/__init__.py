"""TODO rtl/post."""
