"""CamVid at full resolution with all 32 labels: the original release, or images with index labels and `codes.txt`."""

import os
from functools import partial
from pathlib import Path

import numpy as np

from crisscross.data.color import labels_of_colors, write_mask
from crisscross.data.dataset import DataSet, Pair, existing_folder
from crisscross.data.files.folders import images_in, needed_folder, read_lines, read_names
from crisscross.data.files.reading import read_image
from crisscross.data.palette import class_names, hex_palette
from crisscross.data.sets.record import BuiltIn, Plan
from crisscross.errors import CrissCrossError
from crisscross.files import output_path

CLASSES = class_names(
    """
    Animal, Archway, Bicyclist, Bridge, Building, Car, CartLuggagePram, Child, Column_Pole, Fence, LaneMkgsDriv,
    LaneMkgsNonDriv, Misc_Text, MotorcycleScooter, OtherMoving, ParkingBlock, Pedestrian, Road, RoadShoulder,
    Sidewalk, SignSymbol, Sky, SUVPickupTruck, TrafficCone, TrafficLight, Train, Tree, Truck_Bus, Tunnel,
    VegetationMisc, Void, Wall
    """
)
PALETTE = hex_palette(
    """
    408040 c00080 0080c0 008040 800000 400080 4000c0 c08040 c0c080 404080 8000c0 c00040 808040 c000c0 804040 40c080
    404000 804080 8080c0 0000c0 c08080 808080 4080c0 000040 004040 c04080 808000 c080c0 400040 c0c000 000000 40c000
    """
)
# Void keeps its number, so that class numbers are those of codes.txt; its pixels are ignored.
VOID = CLASSES.index("Void")
# The 11 classes of Badrinarayanan et al.: what each of them gathers. OtherMoving is ignored: in their labels of
# sequence 0006R0 its pixels are unlabeled (other published groupings call it car).
GROUPS = {
    "sky": ("Sky",),
    "building": ("Archway", "Bridge", "Building", "Tunnel", "Wall"),
    "pole": ("Column_Pole", "TrafficCone"),
    "road": ("Road", "LaneMkgsDriv", "LaneMkgsNonDriv"),
    "pavement": ("Sidewalk", "ParkingBlock", "RoadShoulder"),
    "tree": ("Tree", "VegetationMisc"),
    "sign": ("SignSymbol", "Misc_Text", "TrafficLight"),
    "fence": ("Fence",),
    "car": ("Car", "SUVPickupTruck", "Truck_Bus", "Train"),
    "pedestrian": ("Pedestrian", "Child", "CartLuggagePram", "Animal"),
    "bicyclist": ("Bicyclist", "MotorcycleScooter"),
}
TO_11 = {number: 255 for number in (VOID, CLASSES.index("OtherMoving"))} | {
    CLASSES.index(name): number for number, names in enumerate(GROUPS.values()) for name in names
}

RELEASE, COLORS, INDEX = "701_StillsRaw_full", "LabeledApproved_full", "LabeledIndex_full"
CODES = "codes.txt"
PUBLISHED = {"train": 367, "val": 101, "test": 233}
# More than this fraction of unknown colors means another color table, not single wrong pixels.
MOST_UNKNOWN = 0.01


def is_camvid32(root: Path) -> bool:
    """Whether a folder has one of the two layouts."""
    return (root / RELEASE).is_dir() or ((root / "images").is_dir() and _codes(root / CODES) == CLASSES)


def open_camvid32(root: str | os.PathLike[str]) -> DataSet:
    """Open CamVid at 960 x 720 (Brostow et al. 2009): train 367, val 101, test 233 images.

    Either `701_StillsRaw_full/` with index labels in `LabeledIndex_full/` (made from the release's color labels by
    `crisscross data prepare camvid32`), or `images/`, `labels/*_P.png` and `codes.txt`. Lists `train.txt`, `val.txt`
    and `test.txt` choose the splits; without any, the splits are those of Badrinarayanan et al., by frame number.

    Raises:
        CrissCrossError: a missing folder or file, or other classes in `codes.txt`.
    """
    root = existing_folder(root)
    return DataSet("camvid32", root, CLASSES, PALETTE, camvid32_splits(root), void=(VOID,), video=True)


def camvid32_splits(root: Path) -> dict[str, tuple[Pair, ...]]:
    """The pairs of every split that has any.

    Raises:
        CrissCrossError: a missing folder or file, or other classes in `codes.txt`.
    """
    if (root / CODES).is_file() and not (root / RELEASE).is_dir():
        _check_codes(root / CODES)
        folder, masks, end = root / "images", root / "labels", "_P.png"
        fix = f"images lie in images/, their index labels in labels/ as NAME{end}"
    else:
        folder, masks, end = root / RELEASE, root / INDEX, "_L.png"
        needed_folder(folder, f"unpack 701_StillsRaw_full.zip and LabeledApproved_full.zip into {root}")
        fix = f"it is made from {COLORS}/: type `crisscross data prepare camvid32 {root}`"
    images = images_in(needed_folder(folder, fix))
    needed_folder(masks, fix)
    pairs: dict[str, Pair] = {}
    for path in images:
        if path.stem in pairs:
            other = pairs[path.stem].image.name
            raise CrissCrossError(f"{path}: {other} has the same name; rename or remove one of them")
        pairs[path.stem] = Pair(path.stem, path, masks / f"{path.stem}{end}")
    named = {split: _names(root / f"{split}.txt", pairs) for split in PUBLISHED if (root / f"{split}.txt").is_file()}
    named = named or {split: [name for name in pairs if split_of(name) == split] for split in PUBLISHED}
    return {split: tuple(pairs[name] for name in names) for split, names in named.items() if names}


def split_of(name: str) -> str:
    """The usual split of a frame: `val` is a stretch of 0016E5 at 15 Hz, `test` dusk and the end of 0001TP."""
    sequence, _, frame = name.partition("_")
    number = int("".join(filter(str.isdecimal, frame)) or 0)
    if sequence == "Seq05VD" or (sequence == "0001TP" and number >= 8550):
        return "test"
    return "val" if sequence == "0016E5" and number >= 7959 and number % 2 else "train"


def _names(path: Path, pairs: dict[str, Pair]) -> list[str]:
    names = [Path(name).stem for name in read_names(path, "")]
    if unknown := [name for name in names if name not in pairs]:
        raise CrissCrossError(f"{path}: no image named {unknown[0]!r}")
    return names


def _codes(path: Path) -> tuple[str, ...]:
    """The classes that the file lists; none where it is not there or no text."""
    try:
        return tuple(line for line in read_lines(path) if line)
    except CrissCrossError:
        return ()


def _check_codes(path: Path) -> None:
    if _codes(path) != CLASSES:
        raise CrissCrossError(f"{path}: must list the 32 CamVid classes from Animal to Wall, one a line")


def camvid32_plan(root: Path, out: Path) -> Plan:
    """Index labels of every color label `*_L.png`.

    Raises:
        CrissCrossError: the folder or the labels are missing.
    """
    folder = needed_folder(root / COLORS, f"unpack LabeledApproved_full.zip of CamVid as {root / COLORS}")
    files = images_in(folder, "_L.png")
    if not files:
        raise CrissCrossError(f"{folder}: no labels *_L.png here; unpack LabeledApproved_full.zip of CamVid here")
    jobs = {output_path(out, f"{INDEX}/{path.name}"): partial(to_index, path) for path in files}
    return Plan(jobs, counted="pixels with a color of no class became Void")


def to_index(source: Path, target: Path) -> int:
    """Write the class numbers of one color label; unknown colors become Void. Returns how many pixels had one.

    Raises:
        CrissCrossError: unreadable, or more than a hundredth of unknown colors.
    """
    colors = read_image(source)
    labels = labels_of_colors(colors, PALETTE)
    unknown = int((labels < 0).sum())
    if unknown > MOST_UNKNOWN * labels.size:
        y, x = np.argwhere(labels < 0)[0]
        raise CrissCrossError(
            f"{source}: {unknown} pixels have colors of no class of CamVid, such as {' '.join(map(str, colors[y, x]))}"
        )
    write_mask(target, np.where(labels < 0, VOID, labels).astype(np.uint8), PALETTE)
    return unknown


CAMVID32 = BuiltIn(
    *(open_camvid32, is_camvid32, CLASSES, PALETTE), published=PUBLISHED, prepare=camvid32_plan, when="needed"
)
