"""What the contracts of blocks say, as harnesses, one module for each room of the hardware."""
