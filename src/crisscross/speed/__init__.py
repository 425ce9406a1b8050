"""Less time or less memory for the same results."""
