"""Making masks of class numbers from the files of a data set's download."""

from pathlib import Path
from typing import NamedTuple

from crisscross.config import hint
from crisscross.data.dataset import existing_folder
from crisscross.data.files.threads import each
from crisscross.data.sets import DATASETS
from crisscross.errors import CrissCrossError
from crisscross.files import remove_leftovers
from crisscross.progress import Progress


class Prepared(NamedTuple):
    """How many files were written now, how many were there before, and lines to show."""

    written: int
    skipped: int
    lines: tuple[str, ...]


def prepare(name: str, root: Path, out: Path | None = None) -> Prepared:
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
    plan = make_plan(root, out or root)
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
