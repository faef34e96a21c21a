"""TODO rtl/pod."""
