"""Cityscapes: `*_labelIds.png` -> `*_labelTrainIds.png`, fine and coarse."""

from functools import partial
from pathlib import Path

import numpy as np

from crisscross.data.files.folders import images_in
from crisscross.data.files.reading import read_mask
from crisscross.data.prepare.work import Job, Plan, write_mask
from crisscross.data.sets.cityscapes import COARSE, FINE, LABEL_IDS_END, TRAIN_ID_OF, TRAIN_IDS_END
from crisscross.errors import CrissCrossError
from crisscross.files import output_path


def cityscapes_jobs(root: Path, out: Path) -> Plan:
    """A job for every file of label ids.

    Raises:
        CrissCrossError: there is none.
    """
    files = [
        path
        for kind in (FINE, COARSE)
        if (root / kind).is_dir()
        for path in images_in(root / kind, f"_{kind}_{LABEL_IDS_END}", deep=True)
    ]
    if not files:
        raise CrissCrossError(
            f"{root}: no *_{LABEL_IDS_END} in {FINE}/ or {COARSE}/; unpack gtFine_trainvaltest.zip of Cityscapes here"
        )
    return Plan([Job(_target(path, root, out), partial(to_train_ids, path)) for path in files])


def _target(path: Path, root: Path, out: Path) -> Path:
    return output_path(out, path.relative_to(root).with_name(path.name.removesuffix(LABEL_IDS_END) + TRAIN_IDS_END))


def to_train_ids(source: Path, target: Path) -> int:
    """Write the train ids of one file of label ids.

    Raises:
        CrissCrossError: unreadable, or a value that is no label id.
    """
    labels = read_mask(source)
    if unknown := set(np.unique(labels).tolist()) - TRAIN_ID_OF.keys():
        raise CrissCrossError(f"{source}: value {min(unknown)}, but the label ids of Cityscapes are 0..33")
    table = np.full(256, 255, np.uint8)
    table[list(TRAIN_ID_OF)] = list(TRAIN_ID_OF.values())
    write_mask(target, table[labels])
    return 0
