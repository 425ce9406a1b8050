"""`crisscross.predict`."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from crisscross import tasks
from crisscross.api.networks import Source, Wanted, wanted
from crisscross.api.training import Place
from crisscross.engine.predict import Labeled, find_images, outputs, predict_files
from crisscross.engine.semantic.predict import predict_big_files
from crisscross.engine.task import Task
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.files import claim
from crisscross.inference import BLOCK
from crisscross.layers.devices import find_device
from crisscross.progress import Progress, showing


def predict(
    network: Source,
    paths: Place | Iterable[Place],
    out: Place | None = None,
    *,
    tta: bool = False,
    big: bool = False,
    block: int | None = None,
    score: float | None = None,
    force: bool = False,
    device: str = "auto",
    optimize: bool = False,
    precision: str | None = None,
    weights: Place | None = None,
    offline: bool = False,
    trust: Place | None = None,
    progress: bool = True,
) -> list[Labeled]:
    """Label image files, as `crisscross predict` does.

    The results of all images are held in memory; for endless input call `crisscross.predictor(network).predict`.

    Args:
        network: a name from the zoo, a run folder, a file of weights, what `train` returned, or a network or predictor
            in memory, which stays on its device.
        paths: one or more image files, or folders of them.
        out: the folder to write index, color and overlay PNGs into; nothing is written without it.
        tta: predict at several scales, with flips.
        big: label images of any size, also `.npy` files, block by block; writes only `labels/`.
        block: with `big`: side of a block in pixels (default 1024).
        score: instance segmentation: the lowest score to keep (default 0.5).
        force: replace existing files even if crisscross did not write them.
        device: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1` ... or `mps`.
        optimize: rewrite the network for speed first, which helps most on a CPU.
        precision: of convolutions and matrix products: `fp32`, `bf16` or `fp16`.
        weights, offline, trust: as in `crisscross.load`.
        progress: show progress on standard error.

    Returns:
        For every image its `source`, its `result` (a `Prediction` with `labels`; of instance segmentation boxes,
        classes and masks) and the files `written`. Where an image cannot be read, `error` says why, as a line of the
        progress, or as a warning where that is off.

    Raises:
        CrissCrossError: no such network or image, files in the way, or no image that can be read.
    """
    how = {"weights": weights, "offline": offline, "trust": trust, "optimize": optimize, "precision": precision}
    source = wanted(network, device=device, **how)
    listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    task = source.task()
    options = {"tta": tta, "big": big, "score": score}
    tasks.refuse(task, {**how, **options})
    folder = None if out is None else Path(out)
    found = check_outputs(task, listed, folder, big, source.files, force)
    with showing(progress):
        results = label_images(source, task, listed, len(found), folder, {**options, "block": block}, keep=True)
    _check_read(results, progress)
    return results


def _check_read(results: list[Labeled], said: bool) -> None:
    failed = [one.error for one in results if one.error]
    if len(failed) == len(results):
        first = failed[0] or ""
        raise CrissCrossError(first if len(failed) == 1 else f"none of {len(failed)} images can be read: {first}")
    for line in failed if not said else ():
        warnings.warn(line or "", CrissCrossWarning, 3)


def kinds_of(task: Task, big: bool) -> tuple[str, ...]:
    """The folders of images that are written."""
    return task.kinds[:1] if big else task.kinds


def check_outputs(
    task: Task, paths: Iterable[Place], out: Path | None, big: bool, inputs: Iterable[Path], force: bool
) -> dict[Path, Path]:
    """The images as `find_images` gives them, after a look at the files that they become.

    Raises:
        CrissCrossError: see `find_images` and `claim`.
    """
    found = find_images(paths, out, task.kinds)
    if out is not None:
        targets = outputs(found, out, kinds_of(task, big))
        claim([*targets, *([out / task.listing] if task.listing else [])], [*inputs, *found], force)
    return found


def label_images(
    source: Wanted,
    task: Task,
    paths: list[Any],
    count: int,
    out: Path | None,
    options: dict[str, Any],
    keep: bool = False,
) -> list[Labeled]:
    """Load the network and label `count` images with progress; see `predict_files`.

    Raises:
        CrissCrossError: `block` without `big`, or as `predict_files`.
    """
    big, block = options["big"], options["block"]
    if block and not big:
        raise CrissCrossError("--block is for --big, which labels an image block by block")
    network = source.load(find_device(source.device), {})
    finished = 0
    with Progress("predict", count) as progress:

        def show(labeled: Labeled) -> None:
            nonlocal finished
            finished += 1
            if labeled.error:
                progress.say(f"crisscross: {labeled.error}")
            progress.update(finished)

        def show_block(done: int, total: int) -> None:
            progress.update(finished, block=f"{done}/{total}")

        with source.computing(network):
            if big:
                side = block or BLOCK
                what = (network, paths, out, side, side // 4, show, show_block, options["tta"], keep)
                return predict_big_files(*what)
            asked = {name: options[name] for name in ("tta", "score")}
            given = {name: value for name, value in asked.items() if value is not None and value is not False}
            return predict_files(task, network, paths, out, show, keep, **given)
