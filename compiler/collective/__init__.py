"""Collectives of chips in a ring: which words are sent and received in which order, as jobs of a collective engine."""
