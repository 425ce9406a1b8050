"""Images with their instances as tensors, for training and evaluation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from crisscross.data.files.coco_masks import decode
from crisscross.data.files.reading import read_image
from crisscross.data.samples.loader import Samples, seed_for
from crisscross.data.samples.workers import guarded_items
from crisscross.errors import CrissCrossError
from crisscross.instances.annotations import InstanceImage, InstanceSplit, is_example
from crisscross.instances.config import InstanceExperiment

Target = dict[str, Tensor]


@dataclass(frozen=True)
class InstanceBatch:
    """`images` float32 [3, H, W] in 0..1 each, `targets` as torchvision wants them, `names` of the images.

    A target holds `boxes` float32 [N, 4] (left, top, right, bottom), `labels` int64 [N] from 1 and `masks` uint8
    [N, H, W].
    """

    images: list[Tensor]
    targets: list[Target]
    names: list[str]

    def pin_memory(self) -> "InstanceBatch":
        """The same batch in page-locked memory."""
        return self._changed(Tensor.pin_memory)

    def to(self, device: torch.device) -> "InstanceBatch":
        """The same batch on `device`."""
        return self._changed(lambda tensor: tensor.to(device, non_blocking=True))

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "InstanceBatch":
        targets = [{key: change(value) for key, value in target.items()} for target in self.targets]
        return InstanceBatch([change(image) for image in self.images], targets, self.names)


class InstanceSamples(Samples):
    """The stream of training samples: float32 [3, H, W] in 0..1, its target, and the image's name."""

    def __init__(self, split: InstanceSplit, experiment: InstanceExperiment) -> None:
        self.split, self.images, self.experiment = split, split.learnable, experiment
        self.label = {number: place for place, number in enumerate(experiment.data.categories, 1)}

    def __getitem__(self, n: int) -> tuple[Tensor, Target, str]:
        image = self.images[self.place_at(n, len(self.images))]
        generator = torch.Generator().manual_seed(seed_for(self.experiment.train.seed, 1, n))
        pixels, target = read_sized(image), target_of(self.split, image, self.label)
        tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        if float(torch.rand((), generator=generator)) < self.experiment.augment.flip:
            tensor, target = mirrored(tensor, target)
        return tensor.contiguous(), target, image.name

    @staticmethod
    def collate(samples: list[tuple[Tensor, Target, str]]) -> InstanceBatch:
        """Samples as a batch."""
        images, targets, names = zip(*samples, strict=True)
        return InstanceBatch(list(images), list(targets), list(names))


def read_sized(image: InstanceImage) -> np.ndarray:
    """RGB uint8 [H, W, 3], of the size that the annotations give.

    Raises:
        CrissCrossError: unreadable, or of another size.
    """
    pixels = read_image(image.path)
    if pixels.shape[:2] != (image.height, image.width):
        raise CrissCrossError(
            f"{image.path}: is {pixels.shape[1]} x {pixels.shape[0]}, "
            f"the annotations say {image.width} x {image.height}"
        )
    return pixels


def target_of(split: InstanceSplit, image: InstanceImage, label: dict[int, int]) -> Target:
    """The training examples of an image, without crowds, slivers and empty masks; there may be none.

    Raises:
        CrissCrossError: a damaged mask; file and annotation are named.
    """
    boxes, labels, masks = [], [], []
    for annotation in split.annotations[image.number]:
        if not is_example(annotation):
            continue
        try:
            mask = decode(annotation["segmentation"], image.height, image.width)
        except CrissCrossError as error:
            raise CrissCrossError(f"{split.file}: annotation {annotation['id']}: {error}") from None
        if mask.any():
            left, top, width, height = annotation["bbox"]
            boxes.append([left, top, left + width, top + height])
            labels.append(label[annotation["category_id"]])
            masks.append(torch.from_numpy(mask))
    empty = torch.zeros(0, image.height, image.width, dtype=torch.uint8)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": torch.stack(masks) if masks else empty,
    }


def mirrored(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Image [3, H, W] and target, left and right exchanged."""
    width = image.shape[-1]
    left, top, right, bottom = target["boxes"].unbind(1)
    boxes = torch.stack([width - right, top, width - left, bottom], 1)
    return image.flip(-1), {**target, "boxes": boxes, "masks": target["masks"].flip(-1)}


class _Whole(Dataset):
    def __init__(self, images: tuple[InstanceImage, ...]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(read_sized(self.images[index]))


def whole_images(images: tuple[InstanceImage, ...], workers: int = 0) -> Iterator[Tensor]:
    """Images uint8 [H, W, 3] in order, read by `workers` processes.

    Raises:
        CrissCrossError: one cannot be read, or has another size than the annotations say; when its turn comes.
    """
    return guarded_items(_Whole(images), workers)
