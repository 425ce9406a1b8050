"""Making masks of class numbers from the files of a data set's download."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from crisscross.config import hint
from crisscross.data.dataset import existing_folder
from crisscross.data.files.folders import images_in
from crisscross.data.files.rounding import Value, round_mask
from crisscross.data.files.threads import each
from crisscross.data.layouts.vocabulary import meaning
from crisscross.data.sets import DATASETS
from crisscross.errors import CrissCrossError
from crisscross.files import claim, output_path, remove_leftovers
from crisscross.progress import Progress


class Prepared(NamedTuple):
    """How many files were written now, how many were there before, and lines to show."""

    written: int
    skipped: int
    lines: tuple[str, ...]


def prepare(name: str, root: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Prepared:
    """Write the masks that a data set lacks; those that are there already are left alone.

    Args:
        name: a key of `DATASETS`.
        root: the data set's folder.
        out: where the new files go, in the same folders as below `root`; none means `root` itself.

    Raises:
        CrissCrossError: a data set that needs nothing or is unknown, a missing file, folder or package, or a file that
            cannot be read or written. Files that are finished stay; the next run goes on from there.
    """
    needing = [known for known, dataset in DATASETS.items() if dataset.prepare]
    if name in DATASETS and name not in needing:
        raise CrissCrossError(f"{name} needs no preparation; look at it with `crisscross data check {root}`")
    if name not in needing or (make_plan := DATASETS[name].prepare) is None:
        raise CrissCrossError(f"no preparation for {name!r}; {hint(name, needing)}")
    root = existing_folder(root)
    plan = make_plan(root, Path(out or root))
    for folder in {target.parent for target in plan.jobs}:
        remove_leftovers(folder)
    todo = [target for target in plan.jobs if not target.is_file()]
    skipped = len(plan.jobs) - len(todo)
    with Progress(name, len(plan.jobs), start=skipped) as progress:
        counted = sum(
            each(lambda target: plan.jobs[target](target), todo, lambda done, _: progress.update(skipped + done))
        )
    plan.finish()
    lines = (*plan.lines, f"{counted} {plan.counted}") if counted else plan.lines
    return Prepared(len(todo), skipped, lines)


def round_masks(
    folder: str | os.PathLike[str], values: Sequence[Value], out: str | os.PathLike[str], force: bool = False
) -> Prepared:
    """Write every mask of a folder as an index PNG, each pixel with the class whose value is nearest.

    Files in folders that are named as those of images are left out.

    Args:
        folder: masks, in sub-folders perhaps.
        values: gray values or colors of the classes 0, 1, ...
        out: the folder of the new masks, which keep their names but for the file type.
        force: replace files that are in the way.

    Raises:
        CrissCrossError: no masks in it, two of one name, a mask that cannot be read, or a file that cannot be written.
    """
    folder, out = existing_folder(folder), Path(out)
    if out.resolve() == folder.resolve():
        raise CrissCrossError(f"{out}: --out must be another folder than that of the masks, which stay as they are")
    jobs: dict[Path, Path] = {}
    for source in images_in(folder, deep=True):
        parts = source.relative_to(folder).parts
        if source.is_relative_to(out) or any(meaning(part).role == "image" for part in parts[:-1]):
            continue
        target = output_path(out, source.relative_to(folder).with_suffix(".png"))
        if target in jobs:
            raise CrissCrossError(f"{source}: {jobs[target].name} would become the same file; remove one of them")
        jobs[target] = source
    if not jobs:
        raise CrissCrossError(f"{folder}: no masks in it; give the folder that holds them")
    claim(jobs, jobs.values(), force)
    with Progress("masks", len(jobs)) as progress:
        inexact = sum(
            each(
                lambda target: round_mask(jobs[target], target, values),
                list(jobs),
                lambda done, _: progress.update(done),
            )
        )
    line = f"{inexact:,} pixels had other values than the {len(values)} given; each got the class of the nearest one"
    return Prepared(len(jobs), 0, (line,))
