"""A pod: array, accumulators, engines of its jobs."""
