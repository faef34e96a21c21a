"""Several accelerators beside each other."""
