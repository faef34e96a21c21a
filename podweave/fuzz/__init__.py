"""Random cases of every kind, in RTL, by seed: generated, run, made small if they fail, and run again from a file."""
