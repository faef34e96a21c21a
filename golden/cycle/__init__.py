"""Cycle models: the value of every output port of a block in every cycle, computed from its contract."""
