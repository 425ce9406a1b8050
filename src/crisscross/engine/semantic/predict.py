"""Label very large images and rasters block by block."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crisscross.data.color import index_image
from crisscross.data.rasters.polygons import write_polygons
from crisscross.data.rasters.reading import AS_IT_IS, Raster, RasterOptions, is_raster, open_raster
from crisscross.data.rasters.writing import open_labels
from crisscross.engine.formats import outputs
from crisscross.engine.predict import Done, Labeled, each
from crisscross.errors import CrissCrossError
from crisscross.files import output_path, write_atomically
from crisscross.inference import Prediction, Predictor, predictor_of
from crisscross.inference.prediction import CLASSES_FILE, write_classes, write_png

if TYPE_CHECKING:
    from crisscross.models import Segmenter

# The folder that is written, and all that `crisscross predict` may have written into the same place.
KINDS, ALL = ("labels",), ("labels", "color", "overlay")


def big_outputs(images: Mapping[Path, Path], out: Path, options: RasterOptions = AS_IT_IS) -> list[Path]:
    """The files that `find_images`' images become: `labels/NAME.png`, of rasters `labels/NAME.tif` and polygons.

    Raises:
        CrissCrossError: a link leads out of the folder.
    """
    paths = []
    for source, target in images.items():
        if is_raster(source, options):
            names = [f"labels/{target}.tif", *[f"polygons/{target}.geojson"] * options.polygons]
            paths += [output_path(out, name) for name in names]
        else:
            paths += outputs({source: target}, out, KINDS)
    return paths


def predict_big_files(
    network: "Segmenter | Predictor",
    images: Mapping[Path, Path],
    out: str | os.PathLike[str] | None,
    block: int,
    overlap: int,
    done: Done = lambda labeled: None,
    on_block: Callable[[int, int], object] = lambda finished, total: None,
    tta: bool = False,
    keep: bool = False,
    options: RasterOptions = AS_IT_IS,
    first: bool = True,
) -> list[Labeled]:
    """Label very large images by `Predictor.predict_big` and write the files of `big_outputs`, and `classes.json`.

    A source may also be an array file `.npy`, uint8 [H, W, 3] or [H, W], or a GeoTIFF, which are read block by block.
    `on_block` is called with the numbers of finished and of all blocks of an image; all else as in `predict_files`.
    """
    predictor = predictor_of(network)

    def write(source: Path, target: Path) -> Labeled:
        written = big_outputs({source: target}, Path(out), options) if out is not None else []
        try:
            if is_raster(source, options):
                with open_raster(source, options) as raster:
                    return label_raster(raster, source, written)
            labels = predictor.predict_big(source, block, overlap, tta, done=on_block)
        except CrissCrossError as error:
            line = str(error)
            return Labeled(source, error=line if str(source) in line else f"{source}: {line}")
        for path in written:
            write_png(path, index_image(labels, predictor.palette))
        return labeled(source, written, labels)

    def label_raster(raster: Raster, source: Path, written: list[Path]) -> Labeled:
        if not written:
            return labeled(source, (), predictor.predict_big(raster, block, overlap, tta, done=on_block))
        path, *polygons = written
        write_atomically(path, partial(write_raster, raster))
        for polygon_path in polygons:
            write_atomically(polygon_path, partial(write_polygons, labels=path, classes=predictor.classes))
        return Labeled(source, tuple(written))

    def labeled(source: Path, written: Sequence[Path], labels: np.ndarray) -> Labeled:
        result = Prediction(labels, card=predictor.card)
        return Labeled(source, tuple(written), None, str(result), result if keep else None)

    def write_raster(raster: Raster, path: Path) -> None:
        with open_labels(path, raster, predictor.palette, predictor.card.ignore) as labels:
            predictor.predict_big(raster, block, overlap, tta, labels, on_block)

    results = each(images, write, done)
    if out is not None and first and any(result.error is None for result in results):
        write_classes(Path(out) / CLASSES_FILE, predictor.classes, predictor.palette)
    return results
