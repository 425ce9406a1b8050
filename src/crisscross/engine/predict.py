"""Predict files: which images are labeled, and what is written of each."""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from crisscross.data.files.folders import images_in, read_lines
from crisscross.data.files.reading import IMAGE_SUFFIXES, read_image
from crisscross.data.layouts.photos import without_masks
from crisscross.engine.bulk import overlapped
from crisscross.engine.formats import PNG, Writer
from crisscross.engine.task import Task
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.files import unrecorded
from crisscross.inference.passes import TooLarge

Done = Callable[["Labeled"], None]


@dataclass(frozen=True)
class Labeled:
    """One finished image.

    Attributes:
        source: the file that it came from.
        written: the files that were written.
        error: the line that says why it could not be read, or None.
        summary: what was found, in one line.
        result: what the task's predictor returned, such as a `Prediction`; None where it was not asked for.
    """

    source: Path
    written: tuple[Path, ...] = ()
    error: str | None = None
    summary: str = ""
    result: Any = None


def find_images(
    paths: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None, kinds: Sequence[str] = ()
) -> dict[Path, Path]:
    """Images of files and folders -> where their outputs go, without suffix; see `names_apart`.

    Lists (`.txt`) have a path on each line, relative to their own folder.

    Folders are searched through, but for masks beside images (see `without_masks`) and for `out` in them; where `out`
    is such a folder or lies above it, but for the folders of `kinds` in `out`.

    Raises:
        CrissCrossError: a missing path, a folder or list without images, or two images whose outputs would be one file.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside, _ = without_masks(path, without_outputs(images_in(path, deep=True), path, out, kinds))
            if not inside:
                raise CrissCrossError(f"{path}: no images in this folder ({', '.join(IMAGE_SUFFIXES)})")
            found |= {entry: entry.relative_to(path).with_suffix("") for entry in inside}
        elif path.suffix == ".txt" and path.is_file():
            listed = [path.parent / line for line in read_lines(path) if line]
            if not listed:
                raise CrissCrossError(f"{path}: an empty list; write the path of an image on each line")
            found |= {entry: Path(entry.stem) for entry in listed}
        elif path.exists():
            found[path] = Path(path.stem)
        else:
            raise CrissCrossError(f"{path}: no such file or folder")
    return names_apart(found)


def warn_of_masks(paths: Iterable[str | os.PathLike[str]], out: Path | None, kinds: Sequence[str]) -> None:
    """Cause a `CrissCrossWarning` where `find_images` leaves out masks."""
    for path in map(Path, paths):
        if path.is_dir():
            _, folders = without_masks(path, without_outputs(images_in(path, deep=True), path, out, kinds))
            if folders:
                shown = ", ".join(f"{folder}/" for folder in folders)
                text = f"{path}: left out, since masks lie there: {shown}; to label them, name the folder itself"
                warnings.warn(text, CrissCrossWarning, 3)


def names_apart(found: Mapping[Path, Path]) -> dict[Path, Path]:
    """Files -> their names below the output folder, without suffix: those that are given, if they differ.

    Otherwise all files keep their folders: their names begin at the folder that they have in common. A file that is
    named twice counts once.

    Raises:
        CrissCrossError: two files differ by their suffixes alone.
    """
    places: dict[str, Path] = {}
    for source in found:
        places.setdefault(os.path.abspath(source), source)
    if len({found[source] for source in places.values()}) == len(places):
        return {source: found[source] for source in places.values()}
    try:
        top = os.path.commonpath([os.path.dirname(place) for place in places])
    except ValueError as error:
        raise CrissCrossError(f"files on several drives have one name ({error}); predict them apart") from None
    taken: dict[Path, Path] = {}
    for place, source in places.items():
        target = Path(os.path.relpath(place, top)).with_suffix("")
        if target in taken:
            raise CrissCrossError(f"{taken[target]} and {source} would both be written as {target}; predict them apart")
        taken[target] = source
    return {source: target for target, source in taken.items()}


def without_outputs(
    files: Iterable[Path], folder: Path, out: str | os.PathLike[str] | None, kinds: Sequence[str]
) -> list[Path]:
    """The files of a folder that do not lie where outputs go."""
    skipped = _skipped(folder.resolve(), Path(out).resolve(), kinds) if out is not None else set()
    if not skipped:
        return [*files]
    # Most files share a folder with others.
    apart = cache(lambda parent: skipped.isdisjoint((place := parent.resolve(), *place.parents)))
    return [
        entry
        for entry in files
        if (skipped.isdisjoint(entry.resolve().parents) if os.path.islink(entry) else apart(entry.parent))
    ]


def check_apart(paths: Iterable[str | os.PathLike[str]], out: Path, kinds: Sequence[str]) -> None:
    """Refuse an output folder, at, above or below the inputs, in which images of others would be taken for outputs.

    They would be left out of a search, or outputs would lie among them, such as labels among the masks of a data set.

    Raises:
        CrissCrossError: there is such an image.
    """
    top, places = out.resolve(), set[Path]()
    for path in map(Path, paths):
        found = path.resolve()
        if path.is_dir():
            places |= _skipped(found, top, kinds)
        if top == found or top in found.parents:
            places |= {top / kind for kind in kinds}
    for place in sorted(places):
        if place.is_dir() and (foreign := next(unrecorded(images_in(place, deep=True)), None)):
            raise CrissCrossError(
                f"{foreign}: is not known to be an output of crisscross, but lies where those go with --out {out}; "
                "choose another --out, or use --force to leave it out and write there"
            )


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
    images: Mapping[Path, Path],
    out: str | os.PathLike[str] | None,
    done: Done = lambda labeled: None,
    formats: Sequence[str] = PNG,
    legend: bool = False,
    keep: bool = False,
    first: bool = True,
    **options: Any,
) -> list[Labeled]:
    """Write what each format says for every image of `find_images`, and `classes.json`; see `engine.formats`.

    An image that cannot be read is reported in its `Labeled.error`; the others go on. Without `out` nothing is written.
    Images are read and files are written beside the network's work. `done` is called with each image. Of several
    processes the `first` writes what all share. `options` are those of the task's predictor.

    Returns:
        With `keep` all images, with their `Labeled.result`, else those that could not be read.

    Raises:
        CrissCrossError: the output folder cannot be written.
    """
    predict = task.predictor(network, **options)
    writer = None if out is None else Writer(task, network, Path(out), formats, legend)

    def read(source: Path) -> tuple[Path, Any]:
        try:
            return source, read_image(source)
        except CrissCrossError as error:
            return source, error

    def work(read: tuple[Path, Any]) -> tuple[Path, Any, Any]:
        source, image = read
        try:
            return source, image, None if isinstance(image, CrissCrossError) else predict(image)
        except TooLarge as error:
            return source, CrissCrossError(f"{source}: {error}"), None

    def write(worked: tuple[Path, Any, Any]) -> Labeled:
        source, image, result = worked
        if isinstance(image, CrissCrossError):
            return Labeled(source, error=str(image))
        written = writer.write(source, images[source], image, result) if writer else ()
        return Labeled(source, tuple(written), None, task.summary(result), result if keep else None)

    results = []
    for labeled in overlapped(images, read, work, write):
        if keep or labeled.error:
            results.append(labeled)
        done(labeled)
    if writer and first:
        writer.finish()
    return results


def unfinished(
    images: Mapping[Path, Path], outputs_of: Callable[[Mapping[Path, Path]], Iterable[Path]]
) -> dict[Path, Path]:
    """The images of which a file is missing; `outputs_of` gives those of one. A file that is there is whole."""
    return {
        source: target
        for source, target in images.items()
        if not all(path.is_file() for path in outputs_of({source: target}))
    }


def each(images: Mapping[Path, Path], write: Callable[[Path, Path], Labeled], done: Done) -> list[Labeled]:
    """What `write` returns for each image of `find_images`; `done` is called with it."""
    results = []
    for source, target in images.items():
        results.append(write(source, target))
        done(results[-1])
    return results
