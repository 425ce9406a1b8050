"""GeoTIFF: windows of rasters as images, labels as rasters, and polygons. Needs rasterio, the extra `geo`."""
