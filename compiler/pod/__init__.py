"""TODO compiler/pod."""
