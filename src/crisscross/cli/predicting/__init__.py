"""The parts of `crisscross predict`: formats, rasters, videos."""
