"""Label files: index image, color image and overlay for each; of very large ones the index image alone."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.data.color import colorise, index_image, overlay
from crisscross.data.files.cache import free_memory
from crisscross.data.files.decoding import BYTES_A_PIXEL
from crisscross.data.files.folders import images_in
from crisscross.data.files.reading import IMAGE_SUFFIXES, open_array, read_header, read_image
from crisscross.errors import CrissCrossError
from crisscross.files import output_path, write_atomically
from crisscross.inference import Predictor, predictor_of
from crisscross.models import Segmenter

KINDS = ("labels", "color", "overlay")


@dataclass(frozen=True)
class Labeled:
    """One finished image: its source, the files written, or the line that says why there are none."""

    source: Path
    written: tuple[Path, ...] = ()
    error: str | None = None


def find_images(
    paths: Iterable[str | os.PathLike[str]], out: Path | None = None, kinds: Sequence[str] = KINDS
) -> dict[Path, Path]:
    """Images of files and folders -> where their outputs go, without suffix.

    Folders are searched through, but for `out` in them; where `out` is such a folder or lies above it, but for the
    folders of `kinds` in `out`.

    Raises:
        CrissCrossError: a missing path, a folder without images, or two images whose outputs would be one file.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            skipped = _skipped(path.resolve(), out.resolve(), kinds) if out is not None else set()
            inside = [entry for entry in images_in(path, deep=True) if skipped.isdisjoint(entry.resolve().parents)]
            if not inside:
                raise CrissCrossError(f"{path}: no images in this folder ({', '.join(IMAGE_SUFFIXES)})")
            found |= {entry: entry.relative_to(path).with_suffix("") for entry in inside}
        elif path.exists():
            found[path] = Path(path.stem)
        else:
            raise CrissCrossError(f"{path}: no such file or folder")
    taken: dict[Path, Path] = {}
    for source, target in found.items():
        if target in taken:
            raise CrissCrossError(f"{taken[target]} and {source} would both be written as {target}; predict them apart")
        taken[target] = source
    return found


def outputs(images: Mapping[Path, Path], out: Path, kinds: Sequence[str] = KINDS) -> list[Path]:
    """The files that `find_images`' images become.

    Raises:
        CrissCrossError: a link leads out of the folder.
    """
    return [output_path(out, f"{kind}/{target}.png") for target in images.values() for kind in kinds]


def _skipped(folder: Path, out: Path, kinds: Sequence[str]) -> set[Path]:
    """Folders of outputs below one that is searched."""
    return {
        place
        for place in ([out] if folder in out.parents else [out / kind for kind in kinds])
        if folder in place.parents
    }


def predict_files(
    network: Segmenter | Predictor,
    paths: Iterable[str | os.PathLike[str]],
    out: Path,
    done: Callable[[Labeled], None] = lambda labeled: None,
    tta: bool = False,
) -> list[Labeled]:
    """Label images and write `out/labels/NAME.png` (index), `out/color/NAME.png` and `out/overlay/NAME.png`.

    An image that cannot be read is reported in its `Labeled.error`; the others go on. `tta`: multi-scale + flip.

    Raises:
        CrissCrossError: see `find_images`; or the output folder cannot be written.
    """
    predictor = predictor_of(network)

    def write(source: Path, target: Path) -> Labeled:
        try:
            image = read_image(source)
        except CrissCrossError as error:
            return Labeled(source, error=str(error))
        labels = predictor.predict(image, tta=tta).labels
        written = tuple(outputs({source: target}, out))
        images = (index_image(labels, predictor.palette), *map(_rgb, _drawn(image, labels, predictor)))
        for path, content in zip(written, images, strict=True):
            _write(path, content)
        return Labeled(source, written)

    return _each(paths, out, write, done)


def predict_big_files(
    network: Segmenter | Predictor,
    paths: Iterable[str | os.PathLike[str]],
    out: Path,
    block: int,
    overlap: int,
    done: Callable[[Labeled], None] = lambda labeled: None,
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
            labels = predictor.predict_big(_read_big(source), block, overlap, tta, done=on_block)
        except CrissCrossError as error:
            line = str(error)
            return Labeled(source, error=line if str(source) in line else f"{source}: {line}")
        (path,) = outputs({source: target}, out, KINDS[:1])
        _write(path, index_image(labels, predictor.palette))
        return Labeled(source, (path,))

    return _each(paths, out, write, done)


def _each(
    paths: Iterable[str | os.PathLike[str]],
    out: Path,
    write: Callable[[Path, Path], Labeled],
    done: Callable[[Labeled], None],
) -> list[Labeled]:
    results = []
    for source, target in find_images(paths, out).items():
        results.append(write(source, target))
        done(results[-1])
    return results


def _read_big(source: Path) -> np.ndarray:
    if source.suffix.lower() != ".npy":
        width, height = read_header(source, most_pixels=None)
        needed, free = width * height * BYTES_A_PIXEL, free_memory()
        if free is not None and needed > free:
            raise CrissCrossError(
                f"{source}: {width} x {height} pixels take {needed / 2**30:.1f} GiB to decode, {free / 2**30:.1f} are "
                "free; save it as an array file (.npy), which is read block by block"
            )
        return read_image(source, most_pixels=None)
    return open_array(source)


def _write(path: Path, image: Any) -> None:
    write_atomically(path, partial(image.save, format="PNG", compress_level=3))


def _drawn(image: np.ndarray, labels: np.ndarray, predictor: Predictor) -> tuple[np.ndarray, np.ndarray]:
    return colorise(labels, predictor.palette), overlay(image, labels, predictor.palette)


def _rgb(array: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(array)
