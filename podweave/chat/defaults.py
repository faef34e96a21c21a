"""What a session takes where nothing is said; it imports nothing, so that the command line can show it."""

CHUNK = 128
"""Tokens of a prompt that are run at a time, if row registers are there for as many."""
