"""Layers in exact integers: whole, never tiled."""
