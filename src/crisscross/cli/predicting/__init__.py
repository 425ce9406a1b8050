"""The parts of `crisscross predict`: what is written of images, rasters and videos."""
