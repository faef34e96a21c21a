"""A memory on AXI as the prefetch engines see it."""
