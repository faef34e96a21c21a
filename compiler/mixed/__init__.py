"""Graphs of layers and of operations on rows: each is compiled by its own compiler, part by part, into one list of epochs."""
