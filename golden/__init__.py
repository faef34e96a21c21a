"""Golden models of podweave: whole layers in exact integers, in NumPy and the standard library only."""
