"""Links between chips: the port of a chip to its ring, and the engine that moves words between that and the banks."""
