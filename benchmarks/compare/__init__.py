"""This package beside other implementations, measured in one run."""
