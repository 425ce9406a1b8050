"""CamVid's color labels -> index labels of its 32 classes."""

from functools import partial
from pathlib import Path

import numpy as np

from crisscross.data.color import labels_of_colors
from crisscross.data.files.folders import images_in, needed_folder
from crisscross.data.files.reading import read_image
from crisscross.data.palette import Palette
from crisscross.data.prepare.work import Job, Plan, write_mask
from crisscross.data.sets.camvid32 import COLOR_TABLE, COLORS, INDEX, VOID, read_color_table
from crisscross.errors import CrissCrossError
from crisscross.files import output_path

# More than this share of unknown colors means another table, not a stray pixel.
STRAY = 0.01


def camvid32_jobs(root: Path, out: Path) -> Plan:
    """A job for every color label `*_L.png`; the colors are those of `label_colors.txt`.

    Raises:
        CrissCrossError: the folder, the table or the labels are missing.
    """
    folder = needed_folder(root / COLORS, f"unpack LabeledApproved_full.zip of CamVid as {root / COLORS}")
    palette = read_color_table(root / COLOR_TABLE)
    files = images_in(folder, "_L.png")
    if not files:
        raise CrissCrossError(f"{folder}: no labels *_L.png here; unpack LabeledApproved_full.zip of CamVid here")
    jobs = [Job(output_path(out, f"{INDEX}/{path.name}"), partial(to_index, path, palette)) for path in files]
    return Plan(jobs, odd=f"pixels with a color that {COLOR_TABLE} does not hold became Void")


def to_index(source: Path, palette: Palette, target: Path) -> int:
    """Write the class numbers of one color label; stray colors become Void. Returns how many pixels had one.

    Raises:
        CrissCrossError: unreadable, or full of unknown colors.
    """
    colors = read_image(source)
    labels = labels_of_colors(colors, palette)
    stray = int((labels < 0).sum())
    if stray > STRAY * labels.size:
        y, x = np.argwhere(labels < 0)[0]
        raise CrissCrossError(
            f"{source}: {stray} pixels have colors that {COLOR_TABLE} does not hold, such as "
            f"{' '.join(map(str, colors[y, x]))}"
        )
    write_mask(target, np.where(labels < 0, VOID, labels).astype(np.uint8), palette)
    return stray
