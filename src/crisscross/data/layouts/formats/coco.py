"""COCO's layout: one JSON file a split, with polygons or run lengths."""

import mmap
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from crisscross.data.files.coco_json import entries, read_images, read_tree
from crisscross.data.files.coco_masks import Drop, check_shape, checked_shape, decode, import_coco
from crisscross.data.layouts.reading import Drawings, Reading, drawn_folders
from crisscross.data.layouts.sources import common, holds, image_files, split_of, text_files
from crisscross.data.layouts.vocabulary import meaning
from crisscross.errors import CrissCrossError

# JSON files that are looked at.
MOST_FILES = 200


def coco(root: Path) -> Reading | None:
    """COCO's JSON: one file a split, in `annotations/` or beside the images."""
    everything: dict[str, list[Path]] = defaultdict(list)
    for image in image_files(root):
        everything[image.name].append(image.relative_to(root))
    stems = {image.stem for found in everything.values() for image in found}
    # A file for each image is another format; of whole data sets there are few.
    whole = [path for path in text_files(root, ".json") if path.stem not in stems]
    files = [path for path in whole if len(whole) <= MOST_FILES and is_coco(path)]
    panoptic = [path for path in files if holds(path, b'"segments_info"', most=2**20)]
    files = [path for path in files if path not in panoptic]
    if panoptic and not files:
        raise CrissCrossError(
            f"{panoptic[0]}: COCO's panoptic format, which is not read; export as COCO instances, or as semantic masks"
        )
    if not files:
        return None
    classes: list[str] = []
    images: dict[str, str] = {}
    draw: Drawings = {}
    for file in files:
        names, masks = coco_masks(file)
        if classes and names != classes:
            raise CrissCrossError(f"{file}: other categories than {files[0].name}; every split needs the same ones")
        classes = names
        split = meaning(file.stem).split or split_of(file.parent.relative_to(root).as_posix())
        folders = set()
        for name, make in masks.items():
            relative = _image_of(file, name, split, everything)
            folders.add(relative.parent.as_posix())
            draw[relative.with_suffix(".png").as_posix()] = make
        images[split] = common(folders)
    note = f"objects of {len(draw)} images drawn to masks, large ones first; what none covers is background"
    return Reading("COCO", {"names": ["background", *classes], **drawn_folders(images)}, (note,), draw)


def _image_of(file: Path, name: str, split: str, images: Mapping[str, Sequence[Path]]) -> Path:
    """The image that a file names, relative to the root; of several by one name that with its folders, or of its split.

    Raises:
        CrissCrossError: there is none, or more than one.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    named = images.get(parts[-1], ()) if parts else ()
    if not named:
        raise CrissCrossError(f"{file}: its image {name!r:.100} is not here; export with images")
    found = named
    if len(found) > 1:
        found = [path for path in named if len(parts) > 1 and path.parts[-len(parts) :] == parts] or [
            path for path in named if split_of(path.parent.as_posix()) == split
        ]
    if len(found) != 1:
        raise CrissCrossError(f"{file}: its image {name!r:.100} can be {named[0]} or {named[1]}; rename one of them")
    return found[0]


def is_coco(path: Path) -> bool:
    """Whether a file has COCO's three lists, at a glance: those of large data sets have gigabytes."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return all(content.find(f'"{key}"'.encode()) >= 0 for key in ("images", "annotations", "categories"))
    except (OSError, ValueError):
        return False


def coco_masks(file: Path) -> tuple[list[str], Drawings]:
    """Classes of a COCO file in the order of their numbers, and its masks by the name of their image.

    Objects are drawn from large to small; 0 is the background. Run lengths count whatever `iscrowd` says: CVAT marks
    every brush stroke so.

    Raises:
        CrissCrossError: a damaged file, one of boxes alone, or the package pycocotools is missing.
    """
    import_coco()
    tree = read_tree(file)
    categories = sorted(entries(file, tree, "categories", id=int, name=str), key=lambda entry: entry["id"])
    objects: dict[int, list[dict[str, Any]]] = {}
    for entry in entries(file, tree, "annotations", id=int, image_id=int, category_id=int):
        objects.setdefault(entry["image_id"], []).append(entry)
    found = [entry for entries_of_image in objects.values() for entry in entries_of_image]
    if found and not any(entry.get("segmentation") for entry in found):
        raise CrissCrossError(f"{file}: its {len(found)} objects are boxes without masks; export it for segmentation")
    used = {entry["category_id"] for entry in found}
    # Roboflow invents a category 0 above all others, which no object has.
    kept = [entry for entry in categories if entry["id"] in used or entry["id"] != 0]
    numbers = {entry["id"]: number for number, entry in enumerate(kept, 1)}
    names = [str(entry["name"]) for entry in kept]
    draw: Drawings = {}
    for image in read_images(file, tree):
        draw[image.file_name] = partial(
            _coco_mask, str(file), (image.height, image.width), objects.get(image.number, []), numbers
        )
    return names, draw


def _coco_mask(
    file: str, size: tuple[int, int], objects: Iterable[dict[str, Any]], numbers: Mapping[int, int]
) -> np.ndarray:
    drawn = []
    for entry in objects:
        where = f"{file}: annotation {entry['id']}"
        if entry["category_id"] not in numbers:
            raise CrissCrossError(f"{where}: category {entry['category_id']} is not in the list of categories")
        try:
            shape, _ = checked_shape(entry.get("segmentation"), *size, where)
        except Drop:
            continue
        check_shape(shape, where)
        covered = decode(shape, *size) > 0
        drawn.append((int(covered.sum()), numbers[entry["category_id"]], covered))
    labels = np.zeros(size, np.uint8)
    for _, number, covered in sorted(drawn, key=lambda one: -one[0]):
        labels[covered] = number
    return labels
