"""The images that an exported file is checked with, and those that int8 is calibrated with."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from crisscross.data import DataSet, open_dataset
from crisscross.data.dataset import existing_folder
from crisscross.data.files.folders import images_in
from crisscross.data.files.reading import read_image, read_pair
from crisscross.data.scenes import draw_scene
from crisscross.deploy.passport import Passport
from crisscross.errors import CrissCrossError
from crisscross.inference import Predictor
from crisscross.inference.passes import views

# Of drawn scenes, where no folder is given: (height, width), and how many.
SCENE, SCENES = (256, 512), 8
# Scenes of the calibration begin at this seed, so that none of them is also checked with.
CALIBRATION_SEED = 1000


@dataclass(frozen=True)
class Samples:
    """Images uint8 [H, W, 3] to check with and to calibrate with; `masks` uint8 [H, W] of the first, or none.

    `source` says what they are.
    """

    source: str
    check: Sequence[np.ndarray]
    calibrate: Sequence[np.ndarray]
    masks: Sequence[np.ndarray] = ()
    ignore: int = 255


def samples_of(folder: str | os.PathLike[str] | None, passport: Passport, count: int) -> Samples:
    """`count` images to check with, evenly spread, and as many to calibrate with; drawn scenes without a folder.

    Args:
        folder: a data set with the network's classes (its test or validation split is checked with, and its training
            split calibrated with), or any folder of images (every second one each).
        passport: of the network.
        count: at most so many of each.

    Raises:
        CrissCrossError: no such folder, no images in it, or one that cannot be read.
    """
    if folder is None:
        few = min(count, SCENES)
        return Samples("drawn scenes", _scenes(0, few), _scenes(CALIBRATION_SEED, few))
    root = existing_folder(folder)
    if dataset := _data_set(root, passport):
        return _of_data_set(dataset, passport, count)
    found = images_in(root, deep=True)
    if not found:
        raise CrissCrossError(f"{root}: no images in this folder, and no data set that crisscross recognizes")
    check, calibrate = (
        [read_image(path) for path in spread(part, count)] for part in (found[::2], found[1::2] or found)
    )
    return Samples(str(root), check, calibrate)


def _scenes(start: int, count: int) -> list[np.ndarray]:
    return [draw_scene(seed, *SCENE)[0] for seed in range(start, start + count)]


def _data_set(root: Path, passport: Passport) -> DataSet | None:
    """The folder as a data set, if it is one and has the network's classes; code is never run for it."""
    name = passport.data.get("name", "auto")
    for known in dict.fromkeys(["auto" if ":" in name else name, "auto"]):
        try:
            found = open_dataset(known, root)
        except CrissCrossError:
            continue
        if tuple(found.classes) == passport.card.classes:
            return found
    return None


def _of_data_set(dataset: DataSet, passport: Passport, count: int) -> Samples:
    wanted = [passport.data.get(key, "") for key in ("test_split", "val_split")]
    full = [name for name, pairs in dataset.splits.items() if pairs]
    split = next((name for name in (*wanted, "test", "val", *full) if name in full), "")
    pairs = [read_pair(pair, dataset) for pair in spread(dataset.split(split), count)]
    train = "train" if "train" in full else split
    calibrate = [read_image(pair.image) for pair in spread(dataset.split(train), count)]
    images, masks = zip(*pairs, strict=True)
    return Samples(f"{dataset.root}, split {split}", images, calibrate, masks, dataset.ignore)


def spread(items: Sequence, count: int) -> list:
    """At most `count` items, evenly spread."""
    step = -(-len(items) // count)
    return list(items[::step])


def calibration_inputs(predictor: Predictor, images: Sequence[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """What the network is shown of each image: its inputs by name, the first window where it uses windows."""
    card = predictor.card
    for image in images:
        placed = image.transpose(2, 0, 1)
        (view, *_) = views(placed.shape[1:], card.inference, card.preprocess.scale)
        x = predictor.preprocess(placed, (view.size[1], view.size[0]))
        least = card.inference.pad_to or (32, 32)
        for window in islice(view.windows(np.asarray(x), least), 1):
            inputs = {"images": np.ascontiguousarray(np.repeat(window, card.frames, 0), np.float32)}
            if card.frames > 1:
                inputs["places"] = np.array(card.places, np.int64)
            yield inputs
