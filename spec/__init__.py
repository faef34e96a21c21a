"""The contract of all rooms: configuration, layouts, jobs, errors, load port, descriptors, registers."""
