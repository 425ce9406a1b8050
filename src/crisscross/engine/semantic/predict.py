"""Label very large images block by block."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.data.color import index_image
from crisscross.engine.predict import Done, Labeled, each, find_images, outputs, write_png
from crisscross.errors import CrissCrossError
from crisscross.inference import Predictor, predictor_of

if TYPE_CHECKING:
    from crisscross.models import Segmenter

# The folder that is written, and all that `crisscross predict` may have written into the same place.
KINDS, ALL = ("labels",), ("labels", "color", "overlay")


def predict_big_files(
    network: "Segmenter | Predictor",
    paths: Iterable[str | os.PathLike[str]],
    out: Path,
    block: int,
    overlap: int,
    done: Done = lambda labeled: None,
    on_block: Callable[[int, int], object] = lambda finished, total: None,
    tta: bool = False,
) -> list[Labeled]:
    """Label very large images by `Predictor.predict_big` and write `out/labels/NAME.png` alone.

    A source may also be an array file `.npy`, uint8 [H, W, 3] or [H, W], which is read block by block. `on_block` is
    called with the numbers of finished and of all blocks of an image; all else as in `predict_files`.
    """
    predictor = predictor_of(network)

    def write(source: Path, target: Path) -> Labeled:
        try:
            labels = predictor.predict_big(source, block, overlap, tta, done=on_block)
        except CrissCrossError as error:
            line = str(error)
            return Labeled(source, error=line if str(source) in line else f"{source}: {line}")
        (path,) = outputs({source: target}, out, KINDS)
        write_png(path, index_image(labels, predictor.palette))
        return Labeled(source, (path,))

    return each(find_images(paths, out, ALL), write, done)
