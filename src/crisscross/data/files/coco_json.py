"""COCO's annotation files: lists of entries whose fields are checked before use."""

from pathlib import Path
from typing import Any, NamedTuple

from crisscross.config.documents import ANNOTATION_BYTES, read_json
from crisscross.errors import CrissCrossError
from crisscross.files import joined

# pycocotools counts pixels with 32 bits; this many are 16,384 x 16,384.
MOST_PIXELS = 2**28


class ImageEntry(NamedTuple):
    """One entry of `images`: its number, the path of its file below the folder of images, its size in pixels."""

    number: int
    file_name: str
    height: int
    width: int


def read_tree(file: Path) -> Any:
    """What a file of annotations holds.

    Raises:
        CrissCrossError: unreadable, or no JSON within the limits of `config/documents.py`.
    """
    return read_json(file, ANNOTATION_BYTES)


def entries(file: Path, tree: Any, section: str, **kinds: type) -> list[dict[str, Any]]:
    """A list of a COCO file whose entries have these fields, of kind `int` (of 64 bits) or `str` (not blank); `id` is
    one of them, and none is there twice.

    Raises:
        CrissCrossError: there is no such list, or an entry lacks a field or has another kind of value there.
    """
    if not isinstance(tree, dict) or not isinstance(tree.get(section), list):
        raise CrissCrossError(f"{file}: has no list {section!r}; not a COCO annotation file")
    seen = set()
    for number, entry in enumerate(tree[section]):
        for name, kind in kinds.items():
            value = entry.get(name) if isinstance(entry, dict) else None
            text, whole = isinstance(value, str) and value.strip(), type(value) is int and abs(value) < 2**63
            if not (whole if kind is int else text):
                wanted = "a whole number" if kind is int else "text"
                raise CrissCrossError(f"{file}: {section}[{number}]: {name} must be {wanted}, got {str(value)[:40]!r}")
        if entry["id"] in seen:
            raise CrissCrossError(f"{file}: {section} has the id {entry['id']} twice")
        seen.add(entry["id"])
    return tree[section]


def read_images(file: Path, tree: Any) -> list[ImageEntry]:
    """The entries of `images`.

    Raises:
        CrissCrossError: as `entries`; a size below 1 or of more than 2^28 pixels; a file outside the folder of images.
    """
    found = []
    for entry in entries(file, tree, "images", id=int, file_name=str, height=int, width=int):
        image = ImageEntry(entry["id"], entry["file_name"], entry["height"], entry["width"])
        if min(image.height, image.width) < 1 or image.height * image.width > MOST_PIXELS:
            raise CrissCrossError(
                f"{file}: image {image.number} has the size {image.width} x {image.height}; sides must be at least 1, "
                f"pixels at most {MOST_PIXELS:,}"
            )
        try:
            joined("the folder of the images", image.file_name)
        except CrissCrossError as error:
            raise CrissCrossError(f"{file}: image {image.number}: {error}") from None
        found.append(image)
    return found
