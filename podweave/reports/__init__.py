"""Reports as tables on a terminal."""
