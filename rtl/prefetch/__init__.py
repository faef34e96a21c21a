"""The prefetch engine of an AXI manager."""
