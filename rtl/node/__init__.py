"""A node of a chip: a pod with its banks, post-processor and program stores."""
