"""Amaranth components of the generator, its configuration, and emission to Verilog."""
