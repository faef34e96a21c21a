"""Test bench: Verilator builds, simulation models, cocotb roles."""
