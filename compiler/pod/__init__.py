"""Layers on one pod."""
