"""Recognize how images and masks lie in a folder that nothing describes."""
