"""Random augmentation, as published. Every draw comes from the generator that is passed in.

Images are uint8 [3, H, W] RGB and masks uint8 [H, W], as torchvision tv_tensors, and move together. The frames of a
clip, [T, 3, H, W], and the masks of any of them, [L, H, W], all move by the same draws.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as moves
from torchvision.tv_tensors import Image, Mask

from crisscross.config import AugmentConfig
from crisscross.config.tree import IMAGENET_MEAN
from crisscross.data.samples.distortion import photometric_distortion
from crisscross.data.samples.draws import chance, uniform, whole_number
from crisscross.data.samples.opencv_resize import resize
from crisscross.data.samples.preprocess import fit_size

CROP_REDRAWS = 10


def random_resize(image: Image, mask: Mask, config: AugmentConfig, generator: Generator) -> tuple[Image, Mask]:
    """Resize to fit `config.scale` (or the image's own size) times a ratio; bilinear image, nearest mask."""
    height, width = image.shape[-2:]
    base = config.scale or (width, height)
    ratio = uniform(*config.ratio, generator)
    size = fit_size(height, width, (int(base[0] * ratio), int(base[1] * ratio)))
    return Image(resize(image.as_subclass(Tensor), size)), Mask(resize(mask.as_subclass(Tensor), size, mask=True))


def random_rotation(
    image: Image,
    mask: Mask,
    config: AugmentConfig,
    ignore: int,
    generator: Generator,
    fill: Sequence[float] = IMAGENET_MEAN,
) -> tuple[Image, Mask]:
    """With probability `config.rotation_chance` rotate by up to `config.rotation` degrees either way.

    Positive is to the left. Bilinear image, nearest mask. Both grow to hold all of the rotated image; the corners get
    the color `fill` (RGB, 0..255, rounded) and the label `ignore`. With a rotation of 0 nothing is drawn from the
    generator.
    """
    if not (config.rotation and chance(config.rotation_chance, generator)):
        return image, mask
    angle = uniform(-config.rotation, config.rotation, generator)
    color = [float(round(value)) for value in fill]
    return (
        moves.rotate(image, angle, InterpolationMode.BILINEAR, expand=True, fill=color),
        moves.rotate(mask, angle, InterpolationMode.NEAREST, expand=True, fill=ignore),
    )


def random_crop(
    image: Image, mask: Mask, config: AugmentConfig, ignore: int, generator: Generator
) -> tuple[Image, Mask]:
    """Cut out at most `config.crop`; draw again, up to ten times, while one class holds `max_fraction` or more.

    Ignored pixels do not count; a crop of one class alone is drawn again too. The last draw is kept as it is.
    """
    height, width = mask.shape[-2:]
    crop_height, crop_width = min(config.crop[0], height), min(config.crop[1], width)
    for _ in range(1 + CROP_REDRAWS):
        top = whole_number(height - crop_height + 1, generator)
        left = whole_number(width - crop_width + 1, generator)
        if config.max_fraction >= 1 or _is_mixed(
            mask[..., top : top + crop_height, left : left + crop_width], config, ignore
        ):
            break
    box = (top, left, crop_height, crop_width)
    return moves.crop(image, *box), moves.crop(mask, *box)


def _is_mixed(mask: Tensor, config: AugmentConfig, ignore: int) -> bool:
    counts = torch.bincount(mask.flatten(), minlength=256)
    counts[ignore] = 0
    return int((counts > 0).sum()) > 1 and int(counts.max()) < config.max_fraction * int(counts.sum())


def random_flip(
    image: Image,
    mask: Mask,
    probability: float,
    generator: Generator,
    flip_pairs: Sequence[tuple[int, int]] = (),
) -> tuple[Image, Mask]:
    """Mirror left and right with this probability; the two classes of each of `flip_pairs` are then exchanged."""
    if not chance(probability, generator):
        return image, mask
    image, mask = moves.horizontal_flip(image), moves.horizontal_flip(mask)
    if not flip_pairs:
        return image, mask
    partner = torch.arange(256, dtype=torch.uint8)
    for left, right in flip_pairs:
        partner[left], partner[right] = right, left
    return image, Mask(partner[mask.as_subclass(Tensor).long()])


def pad(image: Tensor, mask: Tensor, size: tuple[int, int], ignore: int) -> tuple[Tensor, Tensor]:
    """Pad an image [3, H, W] with 0 and its mask with `ignore`, right and below.

    0 is black in an image of bytes and the mean color in a normalized one.
    """
    missing = [0, 0, max(size[1] - mask.shape[-1], 0), max(size[0] - mask.shape[-2], 0)]
    padded = moves.pad(Image(image), missing, fill=0), moves.pad(Mask(mask), missing, fill=ignore)
    return padded[0].as_subclass(Tensor), padded[1].as_subclass(Tensor)


def augment(
    image: Tensor,
    mask: Tensor,
    config: AugmentConfig,
    ignore: int,
    generator: Generator,
    flip_pairs: Sequence[tuple[int, int]] = (),
    fill: Sequence[float] = IMAGENET_MEAN,
) -> tuple[Tensor, Tensor]:
    """Resize, rotate, crop, flip, distort: uint8 [3, H, W] and [H, W] -> the same kinds, at most `config.crop` large.

    A clip's [T, 3, H, W] and [L, H, W] get one draw for all frames.

    `flip_pairs` are classes that are exchanged in a mirrored image, `fill` is the color (RGB, 0..255) beside a
    rotated one. With `config.pad` black, what the image lacks of the crop is added at the end, in black.
    """
    image, mask = random_resize(Image(image), Mask(mask), config, generator)
    image, mask = random_rotation(image, mask, config, ignore, generator, fill)
    image, mask = random_crop(image, mask, config, ignore, generator)
    image, mask = random_flip(image, mask, config.flip, generator, flip_pairs)
    plain = image.as_subclass(Tensor)
    if config.distortion:
        # The distortion treats every pixel by itself, with the channels first.
        plain = photometric_distortion(plain.movedim(-3, 0), generator).movedim(0, -3)
    labels = mask.as_subclass(Tensor)
    return pad(plain, labels, config.crop, ignore) if config.pad == "black" else (plain, labels)
