"""Transformers from ONNX files: how they become integers, what the host computes around them, and how near they are."""
