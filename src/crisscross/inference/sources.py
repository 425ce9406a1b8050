"""What counts as an image, and which images of a list belong together."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

import numpy as np

from crisscross.data.files.reading import read_image
from crisscross.data.samples.opencv_resize import is_tensor
from crisscross.errors import CrissCrossError
from crisscross.inference.arrays import Array

# A path, the bytes of a file, a PIL image, a uint8 array [H, W, 3] (RGB) or [H, W] (gray), or a uint8 tensor [3, H, W].
Image = str | os.PathLike[str] | bytes | np.ndarray | Any


def planes_of(image: Any) -> Array:
    """uint8 RGB [3, H, W]; a tensor as it is.

    Raises:
        CrissCrossError: it cannot be read, or is of a kind that is refused.
    """
    if not is_tensor(image):
        found = read_image(image)
        # torch warns about arrays that cannot be written.
        return (found if found.flags.writeable else found.copy()).transpose(2, 0, 1)
    if str(image.dtype) != "torch.uint8" or image.ndim != 3 or len(image) != 3:
        raise CrissCrossError(f"an image tensor must be uint8 [3, H, W], got {image.dtype} {list(image.shape)}")
    return image


def rgb(image: Image) -> np.ndarray:
    """uint8 RGB [H, W, 3] on the CPU.

    Raises:
        CrissCrossError: as `planes_of`.
    """
    found = planes_of(image)
    return np.ascontiguousarray((found.cpu().numpy() if is_tensor(found) else found).transpose(1, 2, 0))


def is_path(image: Image) -> TypeGuard[str | os.PathLike[str]]:
    """Whether an image is given by its file."""
    return isinstance(image, str | os.PathLike)


def batches(images: Sequence[Image], most: int, pixels: int) -> Iterator[tuple[list[Array], list[Image]]]:
    """Neighbors of one size as planes [3, H, W], and as they were given.

    At most `most` images and `pixels` pixels are together, but always one. Images are read when their turn comes.

    Raises:
        CrissCrossError: as `planes_of`; of an image that is no file its place in the list is named.
    """
    group: list[Array] = []
    sources: list[Image] = []
    for place, image in enumerate(images):
        try:
            planes = planes_of(image)
        except CrissCrossError as error:
            raise (
                error if is_path(image) or len(images) == 1 else CrissCrossError(f"images[{place}]: {error}")
            ) from None
        height, width = planes.shape[-2:]
        full = (len(group) + 1) * height * width > pixels or len(group) == most
        if group and (full or _kind(planes) != _kind(group[0])):
            yield group, sources
            group, sources = [], []
        group.append(planes)
        sources.append(image)
    if group:
        yield group, sources


def _kind(planes: Array) -> tuple[object, ...]:
    """What must be equal in a batch: the size, and whether it is an array or a tensor, and where."""
    return tuple(planes.shape), type(planes), getattr(planes, "device", None)
