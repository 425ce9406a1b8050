"""`crisscross.predict`."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from crisscross import tasks
from crisscross.api.networks import SCENE, Place, Source, Wanted, wanted
from crisscross.data.files.reading import read_image
from crisscross.data.rasters.reading import RasterOptions, is_raster, open_raster
from crisscross.data.scenes import draw_scene
from crisscross.engine.bulk import Share
from crisscross.engine.formats import PNG, all_outputs, check_formats, shared_names, shown
from crisscross.engine.predict import (
    Labeled,
    check_apart,
    find_images,
    predict_files,
    unfinished,
    warn_of_masks,
)
from crisscross.engine.semantic.predict import KINDS, big_outputs, predict_big_files
from crisscross.engine.task import Task
from crisscross.errors import CrissCrossError, CrissCrossWarning, import_extra
from crisscross.files import claim
from crisscross.inference import BLOCK, Prediction
from crisscross.inference.prediction import CLASSES_FILE
from crisscross.progress import Progress, showing


def predict(
    network: Source,
    paths: Place | Iterable[Place],
    out: Place | None = None,
    *,
    formats: str | Iterable[str] = PNG,
    legend: bool = False,
    tta: bool = False,
    big: bool = False,
    block: int | None = None,
    score: float | None = None,
    force: bool = False,
    device: str = "auto",
    optimize: bool = False,
    precision: str | None = None,
    backend: str | None = None,
    weights: Place | None = None,
    offline: bool = False,
    trust: Place | None = None,
    card: Place | None = None,
    progress: bool = True,
) -> list[Labeled]:
    """Label image files, as `crisscross predict` does.

    The results of all images are held in memory; for endless input call `crisscross.predictor(network).predict`.

    Args:
        network: as in `evaluate`.
        paths: one or more image files, folders of them, or lists (`.txt`, a path on each line).
        out: the folder to write into; nothing is written without it.
        formats: of the files: `png` (`labels/`, `color/` and `overlay/`), `polygons`, `coco`, `rle`, `csv`.
        legend: write the classes of an image and their colors below its overlay.
        tta: predict at several scales, with flips.
        big: label images of any size, also `.npy` files, block by block; writes `labels/`, of GeoTIFF also `polygons`.
        block: with `big`: side of a block in pixels (default 1024).
        score: instance segmentation: the lowest score to keep (default 0.5).
        force: replace existing files even if crisscross did not write them.
        device, optimize, precision, backend, weights, offline, trust, card: as in `evaluate`.
        progress: show progress on standard error.

    Returns:
        For every image its `source`, its `result` (a `Prediction` with `labels`, or boxes, classes and masks) and the
        files `written`. Where one cannot be read, `error` says why, as does the progress, else a warning.

    Raises:
        CrissCrossError: no such network or image, files in the way, or no image that can be read.
    """
    how = dict(weights=weights, offline=offline, trust=trust, optimize=optimize, precision=precision, backend=backend)
    source, listed = wanted(network, device=device, card=card, **how), _listed(paths)
    task = source.task()
    options: dict[str, Any] = {"tta": tta, "big": big, "score": score, "legend": legend, "block": block, "force": force}
    tasks.refuse(task, {**how, **options})
    options |= {"formats": check_formats(task, formats, legend, big), "resume": False, "share": Share()}
    options["raster"] = RasterOptions(polygons=big and "polygons" in options["formats"])
    folder = None if out is None else Path(out)
    found = check_outputs(task, listed, folder, options, source.files)
    with showing(progress):
        _, results = label_images(source, task, found, folder, options, keep=True)
    _check_read(results, progress)
    return [_with_source(one) for one in results]


def _listed(paths: Place | Iterable[Place]) -> list[Place]:
    listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not listed:
        raise CrissCrossError("no paths are given: predict takes images, or folders of them")
    return listed


def _with_source(one: Labeled) -> Labeled:
    """With a prediction that knows its image, for `overlay`."""
    if not isinstance(one.result, Prediction):
        return one
    return replace(one, result=replace(one.result, source=one.source))


def _check_read(results: list[Labeled], said: bool) -> None:
    failed = [one.error for one in results if one.error]
    if len(failed) == len(results):
        first = failed[0] or ""
        raise CrissCrossError(first if len(failed) == 1 else f"none of {len(failed)} images can be read: {first}")
    for line in failed if not said else ():
        warnings.warn(line or "", CrissCrossWarning, 3)


def written_names(task: Task, network: Any, options: Mapping[str, Any]) -> list[str]:
    """What lies in the output folder afterwards: folders, then files."""
    big = [*(f"{kind}/" for kind in KINDS), *["polygons/"] * options["raster"].polygons, CLASSES_FILE]
    return big if options["big"] else shown(task, network, options["formats"])


def check_outputs(
    task: Task,
    paths: Sequence[Place],
    out: Path | None,
    options: Mapping[str, Any],
    inputs: Iterable[Path],
    videos: Mapping[Path, Path] = MappingProxyType({}),
) -> dict[Path, Path]:
    """The images as `find_images` gives them, after a look at the files that they, and `videos`, become.

    Raises:
        CrissCrossError: `block` without `big`, or see `find_images`, `claim` and `check_apart`.
    """
    big, force = options["big"], options["force"]
    if options["block"] and not big:
        raise CrissCrossError("--block is for --big, which labels an image block by block")
    everything = find_images(paths, out, task.kinds)
    if options["share"].first:
        warn_of_masks(paths, out, task.kinds)
    if out is None:
        return everything
    _check_part(task, options, bool(videos))
    if big:
        _check_rasters(everything, options["raster"])
    found = options["share"].of(everything)
    if options["resume"]:
        found = unfinished(found, lambda one: _image_outputs(task, one, out, options))
    targets = list(videos.values())
    if found:
        targets += _image_outputs(task, found, out, options)
        # The last is `classes.json`, which the first process writes.
        targets += [out / name for name in _shared(task, options)][: None if options["share"].first else -1]
    claim(targets, [*inputs, *videos, *everything], force)
    if not force:
        check_apart(paths, out, task.kinds)
    return found


def _shared(task: Task, options: Mapping[str, Any]) -> list[str]:
    """The files that hold something of all images."""
    return [CLASSES_FILE] if options["big"] else shared_names(task, options["formats"])


def _image_outputs(task: Task, images: Mapping[Path, Path], out: Path, options: Mapping[str, Any]) -> list[Path]:
    """The files of single images."""
    if options["big"]:
        return big_outputs(images, out, options["raster"])
    return all_outputs(task, images, out, options["formats"])[: -len(_shared(task, options))]


def _check_part(task: Task, options: Mapping[str, Any], videos: bool) -> None:
    """Refuse what is not made image by image, where a run does not label all of them."""
    processes = options["share"].processes
    if not options["resume"] and processes == 1:
        return
    how = "--resume" if options["resume"] else f"the work of {processes} processes"
    if videos:
        raise CrissCrossError(f"{how} is for images; label videos by themselves")
    if names := _shared(task, options)[:-1]:
        raise CrissCrossError(
            f"{how} is for files of single images; {names[0]} holds all of them: choose other formats by --format"
        )


def _check_rasters(images: Mapping[Path, Path], options: RasterOptions) -> None:
    """Look at the options for rasters.

    Raises:
        CrissCrossError: options for rasters, but none of these; a raster, but no rasterio; or what is wrong with the
            only raster, which shall be known before weights are fetched.
    """
    given = [name for name, value in vars(options).items() if value]
    if raster := next((path for path in images if is_raster(path, options)), None):
        import_extra("rasterio", f"{raster}, a GeoTIFF,", "geo")
        if len(images) == 1:
            with open_raster(raster, options):
                pass
    elif images and given:
        option = "format polygons" if given[0] == "polygons" else given[0]
        raise CrissCrossError(f"--{option} with --big is for GeoTIFF; {next(iter(images))} is none")


def label_images(
    source: Wanted,
    task: Task,
    images: Mapping[Path, Path],
    out: Path | None,
    options: Mapping[str, Any],
    keep: bool = False,
) -> tuple[Any, list[Labeled]]:
    """Load the network and label the images of `check_outputs`; the network, and what `predict_files` returns."""
    part, many = options["share"], None if options["big"] else len(images)
    loaded = source.load(part.device(source.find_device()), {})
    network = source.on_backend(loaded, many, lambda: _sample(images, options["big"]))
    finished = 0
    with Progress("predict", len(images)) as progress:

        def show(labeled: Labeled) -> None:
            nonlocal finished
            finished += 1
            if labeled.error:
                progress.say(f"crisscross: {labeled.error}")
            elif labeled.summary and not keep:
                progress.say(f"{labeled.source}: {labeled.summary}", error=False)
            progress.update(finished)

        def show_block(done: int, total: int) -> None:
            progress.update(finished, block=f"{done}/{total}")

        with source.computing(network):
            if options["big"]:
                side = options["block"] or BLOCK
                what = (network, images, out, side, side // 4, show, show_block, options["tta"], keep)
                return network, predict_big_files(*what, options["raster"], part.first)
            asked = {name: options[name] for name in ("tta", "score")}
            given = {name: value for name, value in asked.items() if value is not None and value is not False}
            how = (options["formats"], options["legend"], keep, part.first)
            return network, predict_files(task, network, images, out, show, *how, **given)


def _sample(images: Iterable[Path], big: bool) -> np.ndarray:
    """One of the images; a drawn scene where they are labeled block by block, or none of them can be read."""
    for path in () if big else images:
        with suppress(CrissCrossError):
            return read_image(path)
    return draw_scene(0, *SCENE)[0]
