"""TODO golden/layers."""
