"""Weights of other publishers: names of tensors and metadata."""
