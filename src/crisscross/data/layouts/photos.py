"""The images of a data set's folder without its masks: those that are to be labeled."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from crisscross.config.documents import read_yaml
from crisscross.data.cures import DESCRIPTION
from crisscross.data.layouts.description import Description, parse_description
from crisscross.data.layouts.folders import class_folders_beside, folder_tops
from crisscross.data.layouts.vocabulary import IMAGE_SUFFIXES, MASK_SUFFIXES, meaning
from crisscross.errors import CrissCrossError


def without_masks(root: Path, files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The image files below a folder that are no masks, and the folders of those that are, relative to it.

    Masks are what `dataset.yaml` says; else files in folders that are named as those of masks (or drawings of masks),
    beside folders of images with the same names, or in folders of binary masks, one for each class. Where nothing would
    remain, all files do.
    """
    masks = _described(root, files) if (root / DESCRIPTION).is_file() else None
    found = _by_folder_names(root, files) if masks is None else masks
    kept = [path for path in files if path not in found]
    return (kept, sorted(set(found.values()))) if kept else ([*files], [])


def _described(root: Path, files: Iterable[Path]) -> dict[Path, str] | None:
    """The masks by the description of the folder, with their folders; None where it cannot be read."""
    try:
        said = parse_description(read_yaml(root / DESCRIPTION), root / DESCRIPTION)
    except CrissCrossError:
        return None
    folders = sorted(said.masks.values(), key=len, reverse=True)
    return {
        path: folder
        for path in files
        for folder in folders
        if path.is_relative_to(root / folder) and _is_mask(root, path, folder, said)
    }


def _is_mask(root: Path, path: Path, folder: str, said: Description) -> bool:
    """Whether a file in a folder of masks is one: images may lie in it, too, or in a folder below it."""
    images = [image for image in said.images.values() if path.is_relative_to(root / image)]
    if not images or all((root / folder).is_relative_to(root / image) and image != folder for image in images):
        return True
    end, _, kind = said.mask_suffix.partition(".")
    return bool(said.mask_suffix) and path.stem.endswith(end) and (not kind or path.suffix.lower() == f".{kind}")


def _by_folder_names(root: Path, files: Sequence[Path]) -> dict[Path, str]:
    """The masks by the names of folders, with the deepest folder whose name tells."""
    images: set[str] = set()
    masks: dict[str, list[Path]] = {}
    for path in files:
        parts = path.relative_to(root).parts[:-1]
        meanings = [meaning(part) for part in parts]
        roles = [each.role for each in meanings if each.role]
        if "other" in roles or roles[-1:] == ["mask"]:
            telling = max(place for place, each in enumerate(meanings) if each.role or each.split)
            masks.setdefault(PurePosixPath(*parts[: telling + 1]).as_posix(), []).append(path)
        elif roles or any(each.split for each in meanings):
            images.add(_shared_name(path.stem))
    if not masks and (beside := class_folders_beside(folder_tops(root, files))) and beside.is_binary(root):
        classes = {name: root / name for name in beside.classes}
        return {path: name for path in files for name, folder in classes.items() if path.is_relative_to(folder)}
    return {
        path: folder
        for folder, found in masks.items()
        if any(_shared_name(path.stem) in images for path in found)
        for path in found
    }


def _shared_name(stem: str) -> str:
    """The name that an image and its mask share."""
    return next((stem.removesuffix(end) for end in (*MASK_SUFFIXES, *IMAGE_SUFFIXES) if stem.endswith(end)), stem)
