"""Area of emitted designs with Yosys: per block, and per multiplier against a bare multiply-accumulate unit."""
