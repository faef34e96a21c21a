"""Networks that do not fit: segments of operations, bands of positions, and what lies in memory between them."""
