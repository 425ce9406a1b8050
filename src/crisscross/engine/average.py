"""An exponential moving average of the weights: smoother than the last step, often a little better."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from crisscross.engine.shard import local, part_of


class WeightAverage:
    """average <- d * average + (1 - d) * weights after every step, over parameters and running statistics alike.

    d is min(decay, (1 + t) / (10 + t)) at step t, so that the first random weights are soon forgotten. Counters are
    copied. The average starts as the network is and lives on its device, in its types; of a sharded network it
    is the average of this process's part.

    Args:
        network: what is averaged.
        decay: at least 0 and below 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = network, decay
        self.tensors = {key: value.clone() for key, value in self._state().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        state = self._state()
        moving = [key for key, value in self.tensors.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.tensors[key] for key in moving], [state[key] for key in moving], 1 - decay)
        for key in self.tensors.keys() - set(moving):
            self.tensors[key].copy_(state[key])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the context the network has the averaged weights; afterwards its own again, bit for bit."""
        # All are copied before any is written: a shared weight has several names.
        own = {key: value.clone() for key, value in self._state().items()}
        self._write(self.tensors)
        try:
            yield
        finally:
            self._write(own)

    @torch.no_grad()
    def _write(self, tensors: dict[str, Tensor]) -> None:
        for key, live in self._state().items():
            live.copy_(tensors[key])

    def fill(self, tensors: dict[str, Tensor]) -> None:
        """Load a stored average."""
        for key, like in self.network.state_dict().items():
            self.tensors[key].copy_(local(part_of(tensors[key], like)))

    def _state(self) -> dict[str, Tensor]:
        return {key: local(value.detach()) for key, value in self.network.state_dict().items()}
