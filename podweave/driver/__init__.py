"""An accelerator by its registers and memory."""
