"""Batches whose content follows from (seed, position) alone, so that resuming needs no sampler state."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from crisscross.config import Experiment, TrainConfig
from crisscross.data.dataset import DataSet, Pair
from crisscross.data.files.reading import read_pair
from crisscross.data.samples.opencv_resize import agreeing_opencv
from crisscross.data.samples.preprocess import normalize
from crisscross.data.samples.workers import Guarded, guarded_items, loaded, start_worker
from crisscross.errors import CrissCrossError

# Image uint8 [H, W, 3] and mask uint8 [H, W] of a pair: `read_pair`, or a cache before it.
Read = Callable[[Pair, DataSet], tuple[np.ndarray, np.ndarray]]


def seed_for(*words: int) -> int:
    """A 63-bit seed that follows from the words and from nothing else."""
    high, low = np.random.SeedSequence(words).generate_state(2, np.uint32).tolist()
    return (high << 32 | low) & (2**63 - 1)


@dataclass(frozen=True)
class Batch:
    """`images` [B, ...], `labels` [B, ...] and the `names` of the images, as `Samples.collate` stacks them.

    Of semantic segmentation: `images` float32 [B, 3, H, W] normalized, `labels` uint8 [B, H, W]; of clips, the T frames
    of one lie behind those of the other, and so do the labels of its labeled frames. `found` are the values that occur
    in `labels`, the ignored one among them.
    """

    images: Tensor
    labels: Tensor
    names: list[str]
    found: frozenset[int] = frozenset()

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, from where copies to a GPU run beside other work."""
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory())

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""
        images, labels = (tensor.to(device, non_blocking=True) for tensor in (self.images, self.labels))
        return replace(self, images=images, labels=labels)


class Samples(Dataset):
    """An endless stream of training samples: item n is the n-th since training began, and follows from (seed, n).

    `experiment` is that of the training; any process can make any sample at any time. A sample is an image, its label
    and its name; a subclass with other samples overrides `collate`.
    """

    experiment: Any
    epoch = -1

    def place_at(self, n: int, count: int) -> int:
        """Which of `count` things sample n takes: each epoch n // count has its own permutation."""
        epoch, place = divmod(n, count)
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(seed_for(self.experiment.train.seed, 0, epoch))
            self.epoch, self.order = epoch, torch.randperm(count, generator=generator)
        return int(self.order[place])

    @staticmethod
    def collate(samples: list[Any]) -> Any:
        """A `Batch` of samples (image, label, name): tensors of any type, each of one shape in all samples."""
        images, labels, names = (list(part) for part in zip(*samples, strict=True))
        return Batch(torch.stack(images), torch.stack(labels), names)


class TrainingSamples(Samples):
    """The stream of augmented images with their masks; `read` is how a pair gets from its files."""

    def __init__(
        self, dataset: DataSet, pairs: tuple[Pair, ...], experiment: Experiment, read: Read = read_pair
    ) -> None:
        self.dataset, self.pairs, self.read = dataset, pairs, read
        self.experiment: Experiment = experiment
        # Before processes that read are forked, which then have no threads of OpenCV's to end.
        agreeing_opencv()

    def pair_at(self, n: int) -> Pair:
        """The pair behind sample n."""
        return self.pairs[self.place_at(n, len(self.pairs))]

    def __getitem__(self, n: int) -> tuple[Tensor, Tensor, str]:
        pair = self.pair_at(n)
        image, mask = (torch.from_numpy(array) for array in self.read(pair, self.dataset))
        image, labels = self.augmented(image.permute(2, 0, 1), mask, n)
        return image[0], labels, pair.name

    @staticmethod
    def collate(samples: list[tuple[Tensor, Tensor, str]]) -> Batch:
        """The batch of semantic segmentation; the frames of all clips stand in one dimension."""
        batch = Samples.collate(samples)
        images, labels = batch.images, batch.labels
        if images.dim() == 5:
            images, labels = images.flatten(0, 1), labels.flatten(0, 1)
        # Counted here, in a process that reads: the one that trains has other work.
        found = frozenset(torch.bincount(labels.flatten()).nonzero().flatten().tolist())
        return Batch(images, labels, batch.names, found)

    def augmented(self, image: Tensor, mask: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """uint8 [3, H, W] or a clip's [T, 3, H, W], and its labels, as sample n has them: float32 [1 or T, 3, H, W]."""
        from crisscross.data.samples.transforms import augment, pad

        experiment, ignore = self.experiment, self.dataset.ignore
        generator = torch.Generator().manual_seed(seed_for(experiment.train.seed, 1, n))
        flip_pairs = experiment.data.flip_pairs or self.dataset.flip_pairs
        mean, order = experiment.preprocess.mean, experiment.preprocess.order
        color = mean if order == "rgb" else mean[::-1]
        image, mask = augment(image, mask, experiment.augment, ignore, generator, flip_pairs, color)
        return pad(normalize(image, experiment.preprocess), mask, experiment.augment.crop, ignore)


def check_share(train: TrainConfig, processes: int) -> None:
    """Refuse a batch that cannot be shared out evenly.

    Raises:
        CrissCrossError: it is no multiple of processes times `train.accumulate`.
    """
    if train.batch % (processes * train.accumulate):
        raise CrissCrossError(
            f"train.batch must be a multiple of processes x train.accumulate ({processes} x {train.accumulate}), "
            f"got {train.batch}"
        )


def training_batches(
    samples: Samples,
    start: int,
    process: int = 0,
    processes: int = 1,
    workers: int = 0,
    pin: bool = False,
) -> Iterator[Any]:
    """Batches from iteration `start` to the end of training, `train.accumulate` of them for each iteration.

    Iteration t uses samples t * batch .. (t + 1) * batch - 1, shared out evenly among the processes. `pin` puts
    batches into page-locked memory, which a GPU wants.

    Raises:
        CrissCrossError: the batch cannot be shared out evenly; raised with the first batch.
    """
    train = samples.experiment.train
    check_share(train, processes)
    share = train.batch // processes
    loader = DataLoader(
        Guarded(samples),
        batch_size=share // train.accumulate,
        sampler=_numbers(train, start, process * share, share),
        num_workers=workers,
        collate_fn=partial(_collated, samples.collate),
        pin_memory=pin,
        worker_init_fn=start_worker,
        # The loader draws a seed for its workers, which nothing here uses: not from the model's own random numbers.
        generator=torch.Generator(),
    )
    yield from loaded(loader)


def evaluation_images(
    dataset: DataSet, pairs: tuple[Pair, ...], workers: int = 0, pin: bool = False
) -> Iterator[tuple[Tensor, Tensor, str]]:
    """Whole images uint8 [3, H, W], their masks uint8 [H, W] and names, in order, untouched.

    `pin`: in page-locked memory, from where copies to a GPU run beside other work.

    Raises:
        CrissCrossError: a pair cannot be read; raised when its turn comes.
    """
    yield from guarded_items(EvaluationSamples(dataset, pairs), workers, pin)


def _numbers(train: TrainConfig, start: int, first: int, count: int) -> Iterator[int]:
    """The samples of one process: those from `first` on of each iteration's, `count` of them."""
    for iteration in range(start, train.iterations):
        begin = iteration * train.batch + first
        yield from range(begin, begin + count)


def _collated(collate: Callable[[list[Any]], Any], samples: list[Any]) -> Any:
    """The samples as a batch; an error among them in its place."""
    return next((sample for sample in samples if isinstance(sample, CrissCrossError)), None) or collate(samples)


class EvaluationSamples(Dataset):
    """Whole images uint8 [3, H, W] with masks uint8 [H, W], untouched."""

    def __init__(self, dataset: DataSet, pairs: tuple[Pair, ...]) -> None:
        self.dataset, self.pairs = dataset, pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, str]:
        image, mask = (torch.from_numpy(array) for array in read_pair(self.pairs[index], self.dataset))
        return image.permute(2, 0, 1), mask, self.pairs[index].name
