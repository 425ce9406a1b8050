"""Someone else's whole network, where `model.network` names one."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from crisscross.config import import_attribute
from crisscross.errors import CrissCrossError


class WholeNetwork(nn.Module):
    """A network from outside in the place of a head, which gets the image in the place of feature maps.

    Args:
        name: `package.module:Class`, called with the number of classes. Its forward takes a normalized image
            [B, 3, H, W] and returns class logits [B, K, h, w] of any size, or `Logits`.
        classes: number of classes K.

    Raises:
        CrissCrossError: it cannot be imported or called so, or is no torch module.
    """

    classifiers: tuple[str, ...]
    # What trains it beside the main logits, if anything, is its own.
    gives_aux = True

    def __init__(self, name: str, classes: int) -> None:
        super().__init__()
        made = import_attribute(name, "model.network")
        try:
            net = made(classes)
        except TypeError as error:
            raise CrissCrossError(f"model.network {name}: must take the number of classes: {error}") from error
        if not isinstance(net, nn.Module):
            raise CrissCrossError(f"model.network {name}: must be a torch module, got {type(net).__name__}")
        self.net = net
        self.classifiers = tuple(f"net.{layer}" for layer in getattr(net, "classifiers", ()))

    def forward(self, maps: Sequence[Tensor]) -> Any:
        """What the network makes of the image, `maps[0]`."""
        return self.net(maps[0])
