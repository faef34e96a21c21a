"""An accelerator on AXI, and the emission of Verilog."""
