"""Speed of the tools, and use of the bus."""
