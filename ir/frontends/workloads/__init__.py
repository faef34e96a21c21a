"""Layer dimensions of real networks, as CSV files with their source."""
