"""From a description to a data set: the pairs of every split."""

import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from crisscross.data.dataset import DataSet, Pair
from crisscross.data.files.folders import images_in, name_key, needed_file, needed_folder
from crisscross.data.layouts.description import Description
from crisscross.data.layouts.lists import listed_pairs
from crisscross.data.layouts.reading import DRAWN
from crisscross.data.layouts.sources import image_files
from crisscross.errors import CrissCrossError

# Without split lists one image in so many, chosen by name, is held out.
HELD_OUT = 5
HELD_OUT_NOTE = "no split"


@dataclass(frozen=True)
class _Place:
    """Where the masks of some images lie, and how their names follow from each other.

    With `only_annotated` an image without a mask was not annotated: masks were drawn from annotations, or the images
    are those of Pascal VOC, most of which have boxes alone.
    """

    root: Path
    images: str
    masks: Path
    image_suffix: str
    mask_suffix: str
    only_annotated: bool = False

    def pairs(self) -> tuple[dict[str, Pair], int]:
        """Every image with its mask, or with the place where that should be, by the key of its name; and how many
        images were not annotated."""
        folder = needed_folder(self.root / self.images, "name the folder of images under `images` in dataset.yaml")
        needed_folder(self.masks, "name the folder of masks under `masks` in dataset.yaml")
        together = folder.resolve() == self.masks.resolve()
        if together and not self.mask_suffix:
            raise CrissCrossError(
                f"{folder}: holds images and masks; write what masks have after the name of their image, such as "
                "`mask_suffix: _mask`, in dataset.yaml"
            )
        stem_suffix = "" if self.mask_suffix.startswith(".") else self.mask_suffix.partition(".")[0]
        inside = self.masks.resolve() != folder.resolve() and self.masks.resolve().is_relative_to(folder.resolve())
        mask_of = _by_stem(self.masks, images_in(self.masks, deep=True), self.mask_suffix)
        found: dict[str, Pair] = {}
        left_out = 0
        for path in _counted(self.root, folder):
            name = _stem(folder, path)
            if inside and path.resolve().is_relative_to(self.masks.resolve()):
                continue
            if together and (name.endswith(stem_suffix) if stem_suffix else path.suffix == self.mask_suffix):
                continue
            if not name.endswith(self.image_suffix):
                continue
            name = name.removesuffix(self.image_suffix)
            key = name_key(name)
            if key in found:
                forms = " but for NFC/NFD" if found[key].name != name else ""
                raise CrissCrossError(
                    f"{path}: {found[key].image.name} has the same name{forms}; rename or remove one of them"
                )
            ending = self.mask_suffix if "." in self.mask_suffix else f"{self.mask_suffix}.png"
            if self.only_annotated and key not in mask_of:
                left_out += 1
                continue
            found[key] = Pair(name, path, mask_of.get(key, self.masks / f"{name}{ending}"))
        return found, left_out


def _counted(root: Path, folder: Path) -> list[Path]:
    """The images of a folder; of the root itself without what lies there for other reasons."""
    return image_files(root) if folder.resolve() == root.resolve() else images_in(folder, deep=True)


def _stem(folder: Path, path: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _by_stem(folder: Path, files: Iterable[Path], suffix: str) -> dict[str, Path]:
    """Mask files by the name that they share with their image."""
    end, kind = (suffix, "") if "." not in suffix else (suffix.partition(".")[0], "." + suffix.partition(".")[2])
    found: dict[str, Path] = {}
    for path in files:
        name = _stem(folder, path)
        if not name.endswith(end) or (kind and path.suffix.lower() != kind.lower()):
            continue
        key = name_key(name.removesuffix(end))
        if key in found:
            raise CrissCrossError(
                f"{path}: {found[key].name} in the same folder is the mask of the same image; remove one of them"
            )
        found[key] = path
    return found


def open_description(root: Path, said: Description, drawn: Path | None = None) -> DataSet:
    """The data set that a description describes.

    Args:
        root: its folder.
        said: the description.
        drawn: the folder that `masks` are below, where they were drawn and do not lie in `root`.

    Raises:
        CrissCrossError: a folder, list or file that is missing, or a name that is there twice.
    """
    found = {
        split: _Place(
            *(root, folder, (drawn or root) / _masks_of(root, said, split), said.image_suffix, said.mask_suffix),
            only_annotated=_some_annotated(folder, _masks_of(root, said, split), said.splits),
        ).pairs()
        for split, folder in said.images.items()
    }
    by_split, left_out = {split: pairs for split, (pairs, _) in found.items()}, sum(n for _, n in found.values())
    if "" in by_split:
        masks = _named_masks((drawn or root) / _masks_of(root, said, ""))
        splits, note = _from_lists(root, said.splits, by_split.pop(""), masks)
    else:
        splits, note = {}, ""
    splits |= {split: tuple(pairs.values()) for split, pairs in by_split.items()}
    if "val" not in splits and set(by_split) == {"train"}:
        held_out, rest = hold_out(splits["train"])
        splits |= {"train": rest, "val": held_out}
        note = f"{HELD_OUT_NOTE} 'val': {len(held_out)} of {len(held_out) + len(rest)} images held out by name"
    if said.video and HELD_OUT_NOTE in note:
        raise CrissCrossError(
            f"{root}: frames of videos need train.txt and val.txt: single frames held out would be neighbors of those "
            "that are trained on"
        )
    dropped = f"{left_out} images have no annotation and are left out" if left_out else ""
    note = "; ".join(filter(None, (*said.notes, note, dropped)))
    values = ("folder", root, said.classes, said.palette, splits, said.ignore, said.void, note, said.labels)
    try:
        return DataSet(*values, video=said.video, colored=said.colored, allow_empty=said.allow_empty)
    except CrissCrossError as error:
        raise CrissCrossError(str(error).replace(f"{root}: the data set 'folder'", said.where, 1)) from None


def _some_annotated(images: str, masks: str, splits: Mapping[str, tuple[str, ...]] | None) -> bool:
    """Whether images without a mask are usual: masks were drawn, or the folders are Pascal VOC's and no list tells."""
    voc = PurePosixPath(images).name == "JPEGImages" and PurePosixPath(masks).name.startswith("SegmentationClass")
    return DRAWN in PurePosixPath(masks).parts or (voc and splits is None)


def _masks_of(root: Path, said: Description, split: str) -> str:
    """The folder of a split's masks."""
    if split in said.masks:
        return said.masks[split]
    if "" in said.masks:
        return said.masks[""]
    raise CrissCrossError(f"{root}: dataset.yaml names a folder of images for {split!r}, but none of its masks")


def _named_masks(folder: Path) -> dict[str, Path]:
    """Mask files by the path below their folder, for lists that name them."""
    return {name_key(path.relative_to(folder).as_posix()): path for path in images_in(folder, deep=True)}


def _from_lists(
    root: Path, given: Mapping[str, tuple[str, ...]] | None, pairs: Mapping[str, Pair], masks: Mapping[str, Path]
) -> tuple[dict[str, tuple[Pair, ...]], str]:
    """Splits by lists: those of the description, or train.txt, val.txt and test.txt where they are there."""
    if given is None:
        present = {name: f"{name}.txt" for name in ("train", "val", "test") if (root / f"{name}.txt").is_file()}
        if "train" not in present:
            return _without_train_list(root, present, pairs, masks)
        given = {name: (path,) for name, path in present.items()}
    elif "val" in given and set(given) <= {"val", "test"}:
        return _without_train_list(root, {name: path for name, (path, *_) in given.items()}, pairs, masks)
    found = {
        name: tuple(dict.fromkeys(pair for entry in entries for pair in _entry(root, entry, pairs, masks)))
        if len(entries) > 1
        else _entry(root, entries[0], pairs, masks)
        for name, entries in given.items()
    }
    return found, ""


def _entry(root: Path, entry: str, pairs: Mapping[str, Pair], masks: Mapping[str, Path]) -> tuple[Pair, ...]:
    """The pairs of a list, or of a folder of images."""
    if os.path.isdir(root / entry):
        return tuple(pair for pair in pairs.values() if pair.image.is_relative_to(root / entry))
    fix = f"{root}/dataset.yaml calls it the list of a split: one name a line"
    return listed_pairs(needed_file(root / entry, fix), pairs.values(), masks)


def _without_train_list(
    root: Path, given: Mapping[str, str], pairs: Mapping[str, Pair], masks: Mapping[str, Path]
) -> tuple[dict[str, tuple[Pair, ...]], str]:
    """`train` is whatever no list holds; without a `val` list a fifth of it is held out."""
    splits = {name: listed_pairs(root / path, pairs.values(), masks) for name, path in given.items()}
    listed = {pair.name for split in splits.values() for pair in split}
    free = tuple(pair for pair in pairs.values() if pair.name not in listed)
    if "val" in given:
        return {"train": free, **splits}, f"no list train.txt: train is the {len(free)} images that no other list holds"
    held_out, rest = hold_out(free)
    note = f"{HELD_OUT_NOTE} lists: {len(held_out)} of {len(pairs)} images held out as val by name"
    return {"train": rest, "val": held_out, **splits}, note


def hold_out(pairs: Iterable[Pair]) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """(held out, the others): of n pairs, the ceil(n / 5) names with the smallest checksum; none of a single one."""
    pairs = tuple(pairs)
    count = -(-len(pairs) // HELD_OUT) if len(pairs) > 1 else 0
    chosen = {pair.name for pair in sorted(pairs, key=lambda pair: (_checksum(pair.name), pair.name))[:count]}
    return tuple(p for p in pairs if p.name in chosen), tuple(p for p in pairs if p.name not in chosen)


def _checksum(name: str) -> int:
    return zlib.crc32(os.fsencode(PurePosixPath(name_key(name)).as_posix()))
