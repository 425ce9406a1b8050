"""One file a command of `python -m benchmarks`: `add_arguments` and `run`."""
