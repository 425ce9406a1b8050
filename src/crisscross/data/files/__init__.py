"""Image, mask and annotation files: found, checked, read and kept."""
