"""The post-processor of a P bank."""
