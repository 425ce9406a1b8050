"""The module that insertion adds to a submodule, and the hook that calls it."""

import copy
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from crisscross.errors import CrissCrossError
from crisscross.layers import RecurrentCrissCrossAttention

# Which axis of the features holds the channels, and how many axes there are.
LAYOUTS = {"nchw": (1, 4), "nhwc": (3, 4), "tokens": (2, 3)}
# The name of the attention inside the submodule.
CHILD = "criss_cross"


class InsertedAttention(RecurrentCrissCrossAttention):
    """Recurrent criss-cross attention on the output of one submodule, in its layout.

    Made by `insert_attention`. Its weights are listed, saved, moved and cast with the network's.

    Args:
        channels: C of the features.
        place: the name of the submodule, for errors.
        layout: `nchw` [B, C, H, W], `nhwc` [B, H, W, C] or `tokens` [B, prefix_tokens + H * W, C], row by row.
        grid: (H, W) of tokens; None takes a square.
        prefix_tokens: tokens before the grid (class token, registers), which pass unchanged.
        select: index or key of the features where the submodule returns several values; None if one is a tensor.
        **options: those of `RecurrentCrissCrossAttention`.
    """

    def __init__(
        self,
        channels: int,
        place: str,
        layout: str = "nchw",
        grid: tuple[int, int] | None = None,
        prefix_tokens: int = 0,
        select: int | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(channels, **options)
        self.place, self.layout, self.select = place, layout, select
        self.grid, self.prefix_tokens = grid, prefix_tokens
        # Kept, because unpickling it keeps torch from giving the hook's number to another hook.
        self.handle: RemovableHandle | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Features in `layout` -> the same shape and dtype."""
        self.check(x)
        if self.layout == "nchw":
            return super().forward(x)
        if self.layout == "nhwc":
            return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        prefix, tokens = x[:, : self.prefix_tokens], x[:, self.prefix_tokens :]
        image = tokens.unflatten(1, self._grid(tokens.shape[1])).permute(0, 3, 1, 2)
        attended = super().forward(image).permute(0, 2, 3, 1).flatten(1, 2)
        return attended if self.prefix_tokens == 0 else torch.cat([prefix, attended], 1)

    def check(self, x: Tensor) -> None:
        """Raise a `CrissCrossError` where the features are not of this layout, number of channels and grid."""
        channels = channels_of(x, self.layout, self.place)
        if channels != self.attention.channels:
            raise CrissCrossError(
                f"attention after {self.place}: made for {self.attention.channels} channels, the features "
                f"{tuple(x.shape)} have {channels} in layout {self.layout!r}; remove it, then give channels= and "
                "layout= that fit"
            )
        if self.layout == "tokens":
            self._grid(x.shape[1] - self.prefix_tokens)

    def _grid(self, tokens: int) -> tuple[int, int]:
        if self.grid is not None:
            height, width = self.grid
        else:
            # Not isqrt: it takes no size that export leaves open.
            height = width = round(math.sqrt(tokens))
        if height * width != tokens:
            wanted = f"the grid {self.grid}" if self.grid else "a square"
            raise CrissCrossError(
                f"attention after {self.place}: {tokens} tokens after {self.prefix_tokens} prefix tokens are not "
                f"{wanted}; give grid=(H, W) of the features and prefix_tokens= (a class token counts as one)"
            )
        return height, width

    def attended(self, output: Any) -> Any:
        """The output of the submodule with the selected value attended."""
        if isinstance(output, Tensor):
            return self(output)
        key = selected(output, self.select, self.place)
        return _replaced(output, key, self(output[key]))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        # With a closed gate the network computes what it did without attention, so weights without it are whole.
        gate = self.attention.gamma
        if not any(key.startswith(prefix) for key in state_dict) and not gate.is_meta and not gate.detach().any():
            state_dict.update({prefix + key: value for key, value in self.state_dict().items()})
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def attend(module: Any, inputs: Any, output: Any) -> Any:
    """The forward hook: a plain function, so that copies, pickles and replicas call their own attention."""
    return module.criss_cross.attended(output)


def attach(attention: InsertedAttention, target: nn.Module) -> None:
    """Make it a child of the submodule, called by a hook: names and keys of the network stay as they are."""
    attention.train(target.training)
    target.add_module(CHILD, attention)
    attention.handle = target.register_forward_hook(attend)


def channels_of(x: Any, layout: str, place: str) -> int:
    """C of features in a layout; raises CrissCrossError where they have another."""
    axis, axes = LAYOUTS[layout]
    if not isinstance(x, Tensor):
        raise CrissCrossError(f"attention after {place}: needs a tensor, found {type(x).__name__}")
    if x.dim() != axes:
        hint = "name another submodule"
        if x.dim() == 5:
            hint = "networks over video or volumes are not supported"
        elif x.dim() in (3, 4):
            fitting = "'tokens'" if x.dim() == 3 else "'nchw' or 'nhwc'"
            hint = f"is it layout={fitting}?"
        found = f"layout {layout!r} has {axes} axes, found {tuple(x.shape)}"
        raise CrissCrossError(f"attention after {place}: {found}; {hint}")
    return x.shape[axis]


def selected(values: Any, select: int | str | None, place: str) -> Any:
    """The index or key of the features in a tuple, list or mapping of values."""
    if not isinstance(values, tuple | list | Mapping):
        raise CrissCrossError(
            f"attention after {place}: found {type(values).__name__}; supported are a tensor, or a tuple, list or "
            "dict of tensors"
        )
    items = dict(values) if isinstance(values, Mapping) else dict(enumerate(values))
    if select is not None:
        if select in items:
            return select
        raise CrissCrossError(f"attention after {place}: select={select!r} is none of {_described(items)}")
    tensors = [key for key, value in items.items() if isinstance(value, Tensor)]
    if len(tensors) == 1:
        return tensors[0]
    raise CrissCrossError(f"attention after {place}: choose with select= among {_described(items)}")


def _described(items: Mapping[Any, Any]) -> str:
    shapes = {key: getattr(value, "shape", None) for key, value in items.items()}
    return ", ".join(
        f"{key!r}: {type(items[key]).__name__ if shape is None else tuple(shape)}" for key, shape in shapes.items()
    )


def _replaced(values: Any, key: Any, value: Any) -> Any:
    """A copy with one value changed, of the same type."""
    if isinstance(values, Mapping):
        # torch.compile follows a dict's own method only; dataclasses that are dicts have none that works.
        plain: Any = values
        changed = plain.copy() if type(values) in (dict, OrderedDict) else copy.copy(plain)
        changed[key] = value
        return changed
    listed = list(values)
    listed[key] = value
    return type(values)(*listed) if hasattr(values, "_fields") else type(values)(listed)
