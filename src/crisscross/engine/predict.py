"""Predict files: the drawn images of each, and a list of all results."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from crisscross.data.files.folders import images_in
from crisscross.data.files.reading import IMAGE_SUFFIXES, read_image
from crisscross.engine.task import Task
from crisscross.errors import CrissCrossError
from crisscross.files import output_path, write_atomically, write_text

Done = Callable[["Labeled"], None]


@dataclass(frozen=True)
class Labeled:
    """One finished image.

    Attributes:
        source: the file that it came from.
        written: the files that were written.
        error: the line that says why it could not be read, or None.
        result: what the task's predictor returned, such as a `Prediction`; None where it was not asked for.
    """

    source: Path
    written: tuple[Path, ...] = ()
    error: str | None = None
    result: Any = None


def find_images(
    paths: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None, kinds: Sequence[str] = ()
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
            skipped = _skipped(path.resolve(), Path(out).resolve(), kinds) if out is not None else set()
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


def outputs(images: Mapping[Path, Path], out: str | os.PathLike[str], kinds: Sequence[str]) -> list[Path]:
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
    task: Task,
    network: Any,
    paths: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None,
    done: Done = lambda labeled: None,
    keep: bool = False,
    **options: Any,
) -> list[Labeled]:
    """Write `out/KIND/NAME.png` for every image and every kind of the task, and its listing where it has one.

    An image that cannot be read is reported in its `Labeled.error`; the others go on. Without `out` nothing is written.
    `keep`: the results come back in `Labeled.result`. `options` are those of the task's predictor.

    Raises:
        CrissCrossError: see `find_images`; or the output folder cannot be written.
    """
    predict, listed, out = task.predictor(network, **options), [], None if out is None else Path(out)

    def write(source: Path, target: Path) -> Labeled:
        try:
            image = read_image(source)
        except CrissCrossError as error:
            return Labeled(source, error=str(error))
        result = predict(image)
        kept = result if keep else None
        if out is None:
            return Labeled(source, result=kept)
        drawn = task.draw(network, image, result)
        written = tuple(outputs({source: target}, out, task.kinds))
        for kind, path in zip(task.kinds, written, strict=True):
            write_png(path, drawn[kind])
        if task.listing:
            size = {"file": str(source), "height": image.shape[0], "width": image.shape[1]}
            listed.append({**size, task.name: task.facts(result)})
        return Labeled(source, written, result=kept)

    results = each(find_images(paths, out, task.kinds), write, done)
    if listed and out is not None:
        write_text(out / task.listing, json.dumps(listed, indent=1) + "\n")
    return results


def each(images: Mapping[Path, Path], write: Callable[[Path, Path], Labeled], done: Done) -> list[Labeled]:
    """What `write` returns for each image of `find_images`; `done` is called with it."""
    results = []
    for source, target in images.items():
        results.append(write(source, target))
        done(results[-1])
    return results


def write_png(path: Path, image: Any) -> None:
    """Write a PIL image, atomically."""
    write_atomically(path, partial(image.save, format="PNG", compress_level=3))
