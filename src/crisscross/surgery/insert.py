"""Putting criss-cross attention into any network, in place and with the gate closed."""

import inspect
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from crisscross.errors import CrissCrossError
from crisscross.layers import CrissCrossAttention
from crisscross.surgery.finding import Place, declared_channels, find_places, probe
from crisscross.surgery.inserted import CHILD, LAYOUTS, InsertedAttention, attach, channels_of

Network = TypeVar("Network", bound=nn.Module)
# Those of `RecurrentCrissCrossAttention` and of the layer in it.
OPTIONS = ("recurrence", *list(inspect.signature(CrissCrossAttention).parameters)[1:])
WRAPPERS = (nn.parallel.DistributedDataParallel, nn.DataParallel)


def insert_attention(
    model: Network,
    after: str | Sequence[str] = (),
    *,
    example_inputs: Any = None,
    channels: int | None = None,
    layout: str = "nchw",
    grid: tuple[int, int] | None = None,
    prefix_tokens: int = 0,
    select: int | str | None = None,
    **options: Any,
) -> Network:
    """Put recurrent criss-cross attention right after submodules of any network, in place.

    The gate is closed, so outputs are the same until training opens it. Each place gets attention of its own, a child
    `criss_cross` of the named submodule, on its device and in its dtype. Names, state-dict keys and frozen parts of the
    network stay as they are; while the gate is closed `load_state_dict` also takes weights that have no attention.
    Insert before compiling, optimizer and `DistributedDataParallel`. If one place fails, nothing is inserted.

    Args:
        model: any `nn.Module`; changed.
        after: name of a submodule as in `model.named_modules()`, such as `layer3.22`, or several. An `nn.Sequential`
            stands for its last member.
        example_inputs: what the network is called with once to find channels and to check the places: a tuple of
            arguments, a dict of keyword arguments, or anything else, such as a tensor, as its only argument. None reads
            the channels from the submodule's last convolution and norm.
        channels: C of the features, if it cannot be found.
        layout: `nchw` [B, C, H, W], `nhwc` [B, H, W, C] or `tokens` [B, N, C].
        grid: (H, W) of the tokens; None takes a square.
        prefix_tokens: tokens before the grid (class token, registers), which pass unchanged.
        select: index or key of the features where a submodule returns several values; None if one is a tensor.
        **options: `recurrence` (2), `reduction` (8), `backend`, `memory`, `axis`, `scale` and `position_bias` of
            `RecurrentCrissCrossAttention`.

    Returns:
        `model`.

    Raises:
        CrissCrossError: an unknown name (near ones are listed), a place that has attention already, features that
            cannot be found or are not of this layout, or an invalid option.
    """
    _check(model, layout, grid, prefix_tokens, options)
    places = find_places(model, after)
    for place in places:
        if hasattr(place.module, CHILD):
            raise CrissCrossError(f"{place.name} has attention already; take it out with remove_attention first")
    features = [] if example_inputs is None else probe(model, places, example_inputs, layout, select)
    if channels is not None:
        widths = [channels] * len(places)
    elif features:
        widths = [channels_of(x, layout, place.name) for x, place in zip(features, places, strict=True)]
    else:
        widths = [declared_channels(place) for place in places]
    shape = {"layout": layout, "grid": grid, "prefix_tokens": prefix_tokens, "select": select}
    made = [_made(model, place, width, shape | options) for place, width in zip(places, widths, strict=True)]
    for attention, x in zip(made, features, strict=False):
        attention.check(x)
    for place, attention in zip(places, made, strict=True):
        attach(attention, place.module)
    return model


def inserted_attention(model: nn.Module) -> dict[str, InsertedAttention]:
    """Attention inserted into a network, by its name there, such as `layer3.22.criss_cross`.

    Of each, `attention.gamma` is the gate, and `parameters()` is what an optimizer may treat on its own.
    """
    return {name: module for name, module in model.named_modules() if isinstance(module, InsertedAttention)}


def remove_attention(model: Network, after: str | Sequence[str] = ()) -> Network:
    """Take inserted attention out again, in place; returns `model`.

    Args:
        model: a network that `insert_attention` changed.
        after: as it was given then; without it, all attention is taken out.

    Raises:
        CrissCrossError: there is none at a place that is named.
    """
    inserted = inserted_attention(model)
    if after:
        owners = [place.name for place in find_places(model, after)]
    else:
        owners = [name.rpartition(".")[0] for name in inserted]
    modules = [model.get_submodule(owner) for owner in owners]
    for owner, module in zip(owners, modules, strict=True):
        if not isinstance(getattr(module, CHILD, None), InsertedAttention):
            known = ", ".join(found.place for found in inserted.values()) or "none"
            raise CrissCrossError(f"no attention after {owner}; there is attention after: {known}")
    for module in modules:
        # The `handle` of an InsertedAttention.
        module.get_submodule(CHILD).handle.remove()  # type: ignore[operator,union-attr]
        delattr(module, CHILD)
    return model


def _check(
    model: nn.Module, layout: str, grid: tuple[int, int] | None, prefix_tokens: int, options: dict[str, Any]
) -> None:
    sharded = type(model).__name__.startswith(("FSDP", "FullySharded"))
    if isinstance(model, WRAPPERS) or hasattr(model, "_orig_mod") or sharded:
        raise CrissCrossError(
            f"the network is wrapped already ({type(model).__name__}); insert into the network itself, then wrap it"
        )
    if layout not in LAYOUTS:
        raise CrissCrossError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if layout != "tokens" and (grid is not None or prefix_tokens):
        raise CrissCrossError(f"grid and prefix_tokens are for layout='tokens', got layout={layout!r}")
    if prefix_tokens < 0 or (grid is not None and (len(grid) != 2 or min(grid) < 1)):
        raise CrissCrossError(f"grid is (H, W) and prefix_tokens a count, got {grid} and {prefix_tokens}")
    if unknown := [name for name in options if name not in OPTIONS]:
        raise CrissCrossError(f"unknown option {unknown[0]}; known: {', '.join(OPTIONS)}")


def _made(model: nn.Module, place: Place, channels: int, options: dict[str, Any]) -> InsertedAttention:
    try:
        attention = InsertedAttention(channels, place.name, **options)
    except ValueError as error:
        raise CrissCrossError(f"attention after {place.name}: {error}") from None
    return attention.to(**_kind(model, place))


def _kind(model: nn.Module, place: Place) -> dict[str, Any]:
    """Device and dtype of the submodule's weights; without any, of the network's."""
    for parameter in (*place.named.parameters(), *model.parameters()):
        if parameter.is_floating_point():
            return {"device": parameter.device, "dtype": parameter.dtype}
    return {"dtype": torch.get_default_dtype()}
