"""From layers to programs: tiling, placement, scheduling, and an executor that proves the result before RTL sees it."""
