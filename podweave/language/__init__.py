"""Whole language models: how they are read, what they are in floating point, and in integers."""
