"""What runs inside the simulator process: cocotb tests and their roles."""
