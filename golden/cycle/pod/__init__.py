"""Cycle models of a pod."""
