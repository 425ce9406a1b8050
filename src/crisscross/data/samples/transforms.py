"""Chance in training, as published. Every draw comes from the generator that is passed in.

Pictures are uint8 [3, H, W] RGB and masks uint8 [H, W], as torchvision tv_tensors, and move together. The frames of a
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


def random_resize(
    picture: Image, mask: Mask, config: AugmentConfig, generator: Generator, rule: str = "opencv"
) -> tuple[Image, Mask]:
    """Resize to fit `config.scale` (or the picture's own size) times a ratio; bilinear picture, nearest mask.

    `rule` is that of `preprocess.resize`.
    """
    height, width = picture.shape[-2:]
    base = config.scale or (width, height)
    ratio = uniform(*config.ratio, generator)
    size = fit_size(height, width, (int(base[0] * ratio), int(base[1] * ratio)))
    if rule == "opencv":
        return (
            Image(resize(picture.as_subclass(Tensor), size)),
            Mask(resize(mask.as_subclass(Tensor), size, mask=True)),
        )
    return (
        moves.resize(picture, list(size), interpolation=InterpolationMode.BILINEAR, antialias=False),
        moves.resize(mask, list(size), interpolation=InterpolationMode.NEAREST),
    )


def random_rotation(
    picture: Image,
    mask: Mask,
    config: AugmentConfig,
    ignore: int,
    generator: Generator,
    fill: Sequence[float] = IMAGENET_MEAN,
) -> tuple[Image, Mask]:
    """With chance `config.rotation_chance` turn by up to `config.rotation` degrees either way, positive to the left.

    Bilinear picture, nearest mask. Both grow to hold all of the turned picture; the corners get the colour `fill` (RGB,
    0..255, rounded) and the label `ignore`. With a rotation of 0 nothing is drawn from the generator.
    """
    if not (config.rotation and chance(config.rotation_chance, generator)):
        return picture, mask
    angle = uniform(-config.rotation, config.rotation, generator)
    colour = [float(round(value)) for value in fill]
    return (
        moves.rotate(picture, angle, InterpolationMode.BILINEAR, expand=True, fill=colour),
        moves.rotate(mask, angle, InterpolationMode.NEAREST, expand=True, fill=ignore),
    )


def random_crop(
    picture: Image, mask: Mask, config: AugmentConfig, ignore: int, generator: Generator
) -> tuple[Image, Mask]:
    """Cut out at most `config.crop`; draw again, up to ten times, while one class holds `max_share` or more.

    Ignored pixels do not count; a crop of one class alone is drawn again too. The last draw is kept as it is.
    """
    height, width = mask.shape[-2:]
    crop_height, crop_width = min(config.crop[0], height), min(config.crop[1], width)
    for _ in range(1 + CROP_REDRAWS):
        top = whole_number(height - crop_height + 1, generator)
        left = whole_number(width - crop_width + 1, generator)
        if config.max_share >= 1 or _is_mixed(
            mask[..., top : top + crop_height, left : left + crop_width], config, ignore
        ):
            break
    place = (top, left, crop_height, crop_width)
    return moves.crop(picture, *place), moves.crop(mask, *place)


def _is_mixed(mask: Tensor, config: AugmentConfig, ignore: int) -> bool:
    counts = torch.bincount(mask.flatten(), minlength=256)
    counts[ignore] = 0
    return int((counts > 0).sum()) > 1 and int(counts.max()) < config.max_share * int(counts.sum())


def random_flip(
    picture: Image,
    mask: Mask,
    probability: float,
    generator: Generator,
    flip_pairs: Sequence[tuple[int, int]] = (),
) -> tuple[Image, Mask]:
    """Mirror left and right with this probability; the classes of each of `flip_pairs` then change places."""
    if not chance(probability, generator):
        return picture, mask
    picture, mask = moves.horizontal_flip(picture), moves.horizontal_flip(mask)
    if not flip_pairs:
        return picture, mask
    partner = torch.arange(256, dtype=torch.uint8)
    for left, right in flip_pairs:
        partner[left], partner[right] = right, left
    return picture, Mask(partner[mask.as_subclass(Tensor).long()])


def pad(picture: Tensor, mask: Tensor, size: tuple[int, int], ignore: int) -> tuple[Tensor, Tensor]:
    """Pad a picture [3, H, W] with 0 and its mask with `ignore`, right and below.

    0 is black in a picture of bytes and the mean colour in a normalised one.
    """
    missing = [0, 0, max(size[1] - mask.shape[-1], 0), max(size[0] - mask.shape[-2], 0)]
    padded = moves.pad(Image(picture), missing, fill=0), moves.pad(Mask(mask), missing, fill=ignore)
    return padded[0].as_subclass(Tensor), padded[1].as_subclass(Tensor)


def augment(
    picture: Tensor,
    mask: Tensor,
    config: AugmentConfig,
    ignore: int,
    generator: Generator,
    flip_pairs: Sequence[tuple[int, int]] = (),
    fill: Sequence[float] = IMAGENET_MEAN,
    rule: str = "opencv",
) -> tuple[Tensor, Tensor]:
    """Resize, rotate, crop, flip, distort: uint8 [3, H, W] and [H, W] -> the same kinds, at most `config.crop` large.

    A clip's [T, 3, H, W] and [L, H, W] get one draw for all frames.

    `flip_pairs` are classes that change places in a mirrored picture, `fill` is the colour (RGB, 0..255) beside a
    rotated one, `rule` that of `preprocess.resize`. With `config.pad` black, what the picture lacks of the crop is
    added at the end, in black.
    """
    picture, mask = random_resize(Image(picture), Mask(mask), config, generator, rule)
    picture, mask = random_rotation(picture, mask, config, ignore, generator, fill)
    picture, mask = random_crop(picture, mask, config, ignore, generator)
    picture, mask = random_flip(picture, mask, config.flip, generator, flip_pairs)
    plain = picture.as_subclass(Tensor)
    if config.distortion:
        # Every pixel by itself: the distortion wants its channels first and asks for no more.
        plain = photometric_distortion(plain.movedim(-3, 0), generator).movedim(0, -3)
    labels = mask.as_subclass(Tensor)
    return pad(plain, labels, config.crop, ignore) if config.pad == "black" else (plain, labels)
