"""Find the folders of images and masks below a root, and which mask belongs to which image."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from crisscross.data.cures import PREPARED, create
from crisscross.data.files.folders import images_in
from crisscross.data.layouts.sources import image_files
from crisscross.data.layouts.values import look_at_masks
from crisscross.data.layouts.vocabulary import IMAGE_SUFFIXES, MASK_SUFFIXES, meaning
from crisscross.errors import CrissCrossError

# Names of images that are compared with those of masks to find out what masks are called.
MOST_NAMES = 2000
# Names of classes in a line that is to be completed.
PLACEHOLDERS = ["background", "NAME"]


@dataclass(frozen=True)
class Layout:
    """Where images and masks lie, as `dataset.yaml` says it.

    `images` and `masks` map a split (`""`: no split) to a folder below the root, `""` being the root itself. A mask has
    the name of its image without `image_suffix`, and then `mask_suffix`, which ends in a file type where only that
    distinguishes the two.
    """

    images: Mapping[str, str]
    masks: Mapping[str, str]
    mask_suffix: str = ""
    image_suffix: str = ""
    per_class: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find_layout(root: Path, paired: bool = False) -> Layout | None:
    """The layout of the images and masks below a folder, or None where there are no masks.

    With `paired` lists say which mask belongs to which image, whatever their names.

    Raises:
        CrissCrossError: more than one reading is possible, or masks that belong to no image.
    """
    tops = folder_tops(root, image_files(root))
    old = {folder for top in tops if (folder := _prepared(root, top.folder))}
    notes = [f"{folder}{PREPARED}/ is read in place of {folder}/" for folder in sorted(old)]
    tops = {top: names for top, names in tops.items() if not _prepared(root, top.folder)}
    roles = {role: {top: names for top, names in tops.items() if top.role == role} for role in ("image", "mask", "")}
    if not roles["mask"]:
        if (beside := class_folders_beside(tops)) and beside.is_binary(root):
            return Layout({"": beside.images}, {"": ""}, per_class=beside.classes)
        return _side_by_side(root, {**roles["image"], **roles[""]})
    images = _by_split(root, roles["image"] or roles[""], "images")
    masks = _by_split(root, roles["mask"], "masks")
    if set(masks) == {""} and set(images) > {""}:
        images.pop("", None)
    splits = [split for split in images if split in masks or "" in masks]
    if not splits:
        line = {"names": PLACEHOLDERS, "images": next(iter(images.values())).folder or "."}
        line |= {"masks": next(iter(masks.values())).folder or "."}
        raise CrissCrossError(
            f"{root}: images lie in {_shown(images)}, masks in {_shown(masks)}: no folder of masks belongs to those "
            f"images; name both: {create(root, line)}"
        )
    notes += [_left_out(images[split], tops) for split in images if split not in splits]
    found = {split: (images[split], masks.get(split) or masks[""]) for split in splits}
    names = {split: (_stems(tops, image), _stems(tops, mask)) for split, (image, mask) in found.items()}
    where = {split: image.folder for split, (image, _) in found.items()}
    mask_where = {split: mask.folder for split, (_, mask) in found.items()}
    if classes := _class_folders(names.values()):
        return Layout(where, mask_where, per_class=classes, notes=tuple(notes))
    suffixes = ("", "") if paired else _suffixes(root, names, where, mask_where)
    return Layout(where, mask_where, suffixes[1], suffixes[0], notes=tuple(notes))


def _prepared(root: Path, folder: str) -> str:
    """The part of a folder's path beside which `prepare masks` wrote better masks; empty where it did not."""
    parts = PurePosixPath(folder).parts
    heads = ("/".join(parts[: count + 1]) for count in range(len(parts)))
    return next((head for head in heads if (root / f"{head}{PREPARED}").is_dir()), "")


def _left_out(top: "_Top", tops: Mapping["_Top", Sequence[str]]) -> str:
    return f"{len(tops[top])} images in {top.folder or '.'}/ have no masks and are left out"


@dataclass(frozen=True)
class _Top:
    """The deepest folder whose name says what it holds; the files below it are named relative to it."""

    folder: str
    role: str
    split: str


def folder_tops(root: Path, files: Iterable[Path]) -> dict["_Top", list[str]]:
    """Image files by the deepest folder above them whose name tells what it holds, relative to that."""
    found: dict[_Top, list[str]] = defaultdict(list)
    for file in files:
        parts = file.relative_to(root).parts
        meanings = [meaning(part) for part in parts[:-1]]
        if any(each.role == "other" for each in meanings):
            continue
        # The role is that of the deepest folder which has one: `annotations/images` does not occur, `images/gt` does.
        telling = [place for place, each in enumerate(meanings) if each.role or each.split]
        depth = telling[-1] + 1 if telling else 0
        role = next((each.role for each in reversed(meanings) if each.role), "")
        split = next((each.split for each in meanings if each.split), "")
        top = _Top(PurePosixPath(*parts[:depth]).as_posix() if depth else "", role, split)
        found[top].append(PurePosixPath(*parts[depth:]).as_posix())
    return dict(found)


def _by_split(root: Path, tops: Mapping[_Top, Sequence[str]], what: str) -> dict[str, _Top]:
    """The one folder of each split."""
    chosen: dict[str, _Top] = {}
    for top in tops:
        if (other := chosen.get(top.split)) is not None:
            line = create(root, {"names": PLACEHOLDERS, what: other.folder or "."})
            raise CrissCrossError(
                f"{root}: {what} lie in {other.folder or '.'} and in {top.folder or '.'}; put them together, or choose "
                f"one: {line}"
            )
        chosen[top.split] = top
    return chosen


def _shown(tops: Mapping[str, _Top]) -> str:
    return ", ".join(f"{top.folder or '.'}/" for top in tops.values())


def _stems(tops: Mapping[_Top, Sequence[str]], top: _Top) -> list[str]:
    """Names relative to the folder, without their file types."""
    return [PurePosixPath(name).with_suffix("").as_posix() for name in tops[top]]


def _class_folders(names: Iterable[tuple[list[str], list[str]]]) -> tuple[str, ...]:
    """The classes of masks that lie in one folder a class, each mask with the name of its image; else none."""
    classes: set[str] = set()
    for images, masks in names:
        known, kinds = set(images), {PurePosixPath(mask).parts[0] for mask in masks if "/" in mask}
        if not kinds or known & set(masks):
            return ()
        rest = {PurePosixPath(*PurePosixPath(mask).parts[1:]).as_posix() for mask in masks}
        if not rest <= known:
            return ()
        classes |= kinds
    return tuple(sorted(classes))


@dataclass(frozen=True)
class Beside:
    """A folder of images, and the folders beside it all of whose files are named as images are."""

    images: str
    classes: tuple[str, ...]

    def is_binary(self, root: Path) -> bool:
        """Whether those files are masks of one class each: two values, no colors."""
        try:
            looked = look_at_masks([path for name in self.classes for path in images_in(root / name, deep=True)])
        except CrissCrossError:
            return False
        return all(not one.colors and len(one.values) <= 2 for one in looked)


def class_folders_beside(tops: Mapping["_Top", Sequence[str]]) -> Beside | None:
    """The folders beside the only folder of images that may hold its masks, one for each class."""
    images, others = (_stems(tops, top) if top in tops else [] for top in (_only_images(tops), _Top("", "", "")))
    if images and (classes := _class_folders([(images, others)])):
        return Beside(_only_images(tops).folder, classes)
    return None


def _only_images(tops: Mapping["_Top", Sequence[str]]) -> "_Top":
    """The folder of images where there is one alone, without splits; else one that holds nothing."""
    found = [top for top in tops if top.role or top.split]
    return found[0] if len(found) == 1 and found[0].role == "image" and not found[0].split else _Top("", "image", "")


def _suffixes(
    root: Path,
    names: Mapping[str, tuple[list[str], list[str]]],
    where: Mapping[str, str],
    mask_where: Mapping[str, str],
) -> tuple[str, str]:
    """What images and masks have after the name that they share: those that match the most pairs."""

    def matches(image_suffix: str, mask_suffix: str) -> int:
        return sum(
            image.removesuffix(image_suffix) + mask_suffix in masks
            for images, masks in sets
            for image in images
            if image.endswith(image_suffix)
        )

    sets = [(images[:: len(images) // MOST_NAMES + 1], set(masks)) for images, masks in names.values()]
    choices = [(image, mask) for image in ("", *IMAGE_SUFFIXES) for mask in ("", *MASK_SUFFIXES)]
    best = max(choices, key=lambda choice: matches(*choice))
    if matches(*best):
        return best
    split, (images, masks) = next(iter(names.items()))
    example = "/".join(filter(None, (where[split], images[0]))), "/".join(filter(None, (mask_where[split], masks[0])))
    raise CrissCrossError(
        f"{root}: no mask in {mask_where[split] or '.'}/ has the name of an image (images: {images[0]!r}, ...; masks: "
        f"{masks[0]!r}, ...): rename them, or list which belong together in {root / 'train.txt'} and val.txt, a line "
        f"each: `{example[0]}.png {example[1]}.png`"
    )


def _side_by_side(root: Path, tops: Mapping[_Top, Sequence[str]]) -> Layout | None:
    """The layout of folders that hold images and masks alike, told apart by the ends of their names."""
    if not tops:
        return None
    stems = {top: {PurePosixPath(name).with_suffix("").as_posix() for name in names} for top, names in tops.items()}
    for suffix in MASK_SUFFIXES:
        masks = {top: [stem for stem in found if stem.endswith(suffix)] for top, found in stems.items()}
        with_masks = [top for top, found in masks.items() if found]
        for image_suffix in ("", *IMAGE_SUFFIXES) if with_masks else ():
            if all(
                any(mask.removesuffix(suffix) + image_suffix in stems[top] for mask in masks[top]) for top in with_masks
            ):
                return _together(root, tops, with_masks, suffix, image_suffix)
    if with_masks := [top for top, names in tops.items() if _pairs_by_type(names)]:
        return _together(root, tops, with_masks, ".png")
    return None


def _together(
    root: Path, tops: Mapping[_Top, Sequence[str]], chosen: Sequence[_Top], mask_suffix: str, image_suffix: str = ""
) -> Layout:
    where = {split: top.folder for split, top in _by_split(root, {top: tops[top] for top in chosen}, "images").items()}
    left_out = tuple(_left_out(top, tops) for top in tops if top not in chosen)
    return Layout(where, where, mask_suffix, image_suffix, notes=left_out)


def _pairs_by_type(names: Iterable[str]) -> int:
    """How many names are there as a photograph (.jpg) and as a .png."""
    types: dict[str, set[str]] = defaultdict(set)
    for name in names:
        types[PurePosixPath(name).with_suffix("").as_posix()].add(PurePosixPath(name).suffix.lower())
    return sum(".png" in found and bool(found & {".jpg", ".jpeg"}) for found in types.values())
