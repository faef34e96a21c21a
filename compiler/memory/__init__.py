"""What lies in memory before a run."""
