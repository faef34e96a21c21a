"""An accelerator as an IP block."""
