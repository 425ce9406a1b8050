"""The inputs of the terms of a loss."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from crisscross.config import LossConfig
from crisscross.losses.pixel_losses import sum_over_pixels
from crisscross.losses.resampling import at_least_float32, resize_logits


@dataclass(frozen=True, eq=False)
class LossInputs:
    """One batch of one process, the argument of every term of the loss.

    A term is a function of it that returns a scalar tensor with a gradient; its weight is applied afterwards. B is the
    number of images, K the number of classes, H x W the size of the labels.

    Attributes:
        logits: [B, K, h, w] as the network gives them in training: coarse, of any floating-point type.
        labels: [B, H, W] integers, 0..K-1 or `ignore`.
        ignore: label value that counts nowhere.
        align_corners: how logits are brought to the size of the labels.
        divisor: what makes a mean of a sum over pixels, by `loss.normalizer`: all pixels of this process's batch or,
            with `valid`, the mean over processes of the pixels with a class, at least 1 in all. Gradients are averaged
            over processes, so a sum divided by it counts for the whole batch.
        config: the section `loss`, with the settings of the terms that have some.
        class_weights: [K] beside the logits, float32 or float64, or None.
        embedding: [B, D, h, w], or None where the network gives none.
    """

    logits: Tensor
    labels: Tensor
    ignore: int
    align_corners: bool
    divisor: Tensor | int
    config: LossConfig
    class_weights: Tensor | None = None
    embedding: Tensor | None = None

    @cached_property
    def valid(self) -> Tensor:
        """Where a pixel has a class: bool [B, H, W]."""
        return self.labels != self.ignore

    @cached_property
    def probabilities(self) -> Tensor:
        """Softmax of the logits at the size of the labels: [B, K, H, W], float32, or float64 where the logits are.

        All terms that need whole images share this one tensor.
        """
        return resize_logits(at_least_float32(self.logits), self.labels.shape[-2:], self.align_corners).softmax(dim=1)

    def sum_over_pixels(self, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The sum of a loss of single pixels, in less memory than `probabilities` takes.

        Args:
            loss: called with some rows of some images: logits [n, K, rows, W], float32 or float64, at the size of the
                labels, and their labels [n, rows, W]. It returns the sum over these pixels, a scalar.

        Returns:
            A scalar with a gradient that can be taken once.
        """
        return sum_over_pixels(self.logits, self.labels, self.align_corners, loss)
