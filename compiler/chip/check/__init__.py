"""Programs of a chip against the rules of its hardware."""
