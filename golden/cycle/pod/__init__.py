"""TODO golden/cycle/pod."""
