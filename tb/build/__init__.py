"""Emitting, building and starting simulators."""
