"""Semantic segmentation: the built-in task."""
