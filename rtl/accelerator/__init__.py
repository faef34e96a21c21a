"""TODO rtl/accelerator."""
