"""TODO golden/cycle/accelerator."""
