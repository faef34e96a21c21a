"""Processes that do not outlive who started them."""
