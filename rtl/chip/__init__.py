"""A chip: nodes, networks and sequencer."""
