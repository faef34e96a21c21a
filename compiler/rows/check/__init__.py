"""Programs of rows against the rules of the hardware."""
