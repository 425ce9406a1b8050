"""CamVid's colour labels -> index labels of its 32 classes."""

from functools import partial
from pathlib import Path

import numpy as np

from crisscross.data.color import labels_of_colours
from crisscross.data.files.folders import needed_folder, pictures_in
from crisscross.data.files.reading import read_picture
from crisscross.data.palette import Palette
from crisscross.data.prepare.work import Job, Plan, write_mask
from crisscross.data.sets.camvid32 import COLOUR_TABLE, COLOURS, INDEX, VOID, read_colour_table
from crisscross.errors import CrissCrossError
from crisscross.files import output_path

# More than this share of unknown colours means another table, not a stray pixel.
STRAY = 0.01


def camvid32_jobs(root: Path, out: Path) -> Plan:
    """A job for every colour label `*_L.png`; the colours are those of `label_colors.txt`.

    Raises:
        CrissCrossError: the folder, the table or the labels are missing.
    """
    folder = needed_folder(root / COLOURS, f"unpack LabeledApproved_full.zip of CamVid as {root / COLOURS}")
    palette = read_colour_table(root / COLOUR_TABLE)
    files = pictures_in(folder, "_L.png")
    if not files:
        raise CrissCrossError(f"{folder}: no labels *_L.png here; unpack LabeledApproved_full.zip of CamVid here")
    jobs = [Job(output_path(out, f"{INDEX}/{path.name}"), partial(to_index, path, palette)) for path in files]
    return Plan(jobs, odd=f"pixels with a colour that {COLOUR_TABLE} does not hold became Void")


def to_index(source: Path, palette: Palette, target: Path) -> int:
    """Write the class numbers of one colour label; stray colours become Void. Returns how many pixels had one.

    Raises:
        CrissCrossError: unreadable, or full of unknown colours.
    """
    colours = read_picture(source)
    labels = labels_of_colours(colours, palette)
    stray = int((labels < 0).sum())
    if stray > STRAY * labels.size:
        y, x = np.argwhere(labels < 0)[0]
        raise CrissCrossError(
            f"{source}: {stray} pixels have colours that {COLOUR_TABLE} does not hold, such as "
            f"{' '.join(map(str, colours[y, x]))}"
        )
    write_mask(target, np.where(labels < 0, VOID, labels).astype(np.uint8), palette)
    return stray
