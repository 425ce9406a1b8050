"""How fast and how small it is, beside other implementations; what `python -m benchmarks` runs is in `commands/`."""
