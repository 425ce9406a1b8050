"""Data sets: one file each, opened by a function that returns a `DataSet`."""
