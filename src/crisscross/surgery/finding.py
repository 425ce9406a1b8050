"""Submodules by name, and the channels of their outputs."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from crisscross.errors import CrissCrossError
from crisscross.surgery.inserted import CHILD, InsertedAttention, channels_of, selected

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Place(NamedTuple):
    """A submodule that attention follows: `named` as asked for, `module` itself or the end of an `nn.Sequential`."""

    name: str
    module: nn.Module
    named: nn.Module


def find_places(model: nn.Module, after: str | Sequence[str]) -> list[Place]:
    """The submodules of these names; of an `nn.Sequential` its last member, whose output is the same.

    Raises:
        CrissCrossError: a name is none of the network, is given twice, or is a container that is not called.
    """
    places = [_place(model, name) for name in ([after] if isinstance(after, str) else after)]
    if not places:
        raise CrissCrossError("after= is empty: give the name of a submodule, such as after='layer3.5'")
    for number, place in enumerate(places):
        if any(place.module is other.module for other in places[:number]):
            raise CrissCrossError(f"the same place is named twice: after {place.name}")
    return places


def _place(model: nn.Module, name: str) -> Place:
    module = named = _submodule(model, name)
    while isinstance(module, CONTAINERS):
        members = [key for key, _ in module.named_children() if key != CHILD]
        if not members:
            raise CrissCrossError(f"{name!r} is an empty {type(module).__name__}; name another submodule")
        if type(module).forward is not nn.Sequential.forward:
            # An extra child would be run, or counted, by code that goes through the members.
            raise CrissCrossError(
                f"{name!r} is a container ({type(module).__name__}); name one of its members: "
                + _some([f"{name}.{member}" for member in members])
            )
        name = f"{name}.{members[-1]}"
        module = model.get_submodule(name)
    if isinstance(module, torch.jit.ScriptModule):
        raise CrissCrossError(f"{name!r} is a torch.jit module, which takes no attention; insert before scripting")
    return Place(name, module, named)


def _submodule(model: nn.Module, name: str) -> nn.Module:
    names = dict(model.named_modules(remove_duplicate=False))
    if name and name in names:
        return names[name]
    # The longest part of the name that exists helps more than similar names.
    parent = name.rpartition(".")[0]
    while parent and parent not in names:
        parent = parent.rpartition(".")[0]
    prefix = f"{parent}." if parent else ""
    members = [prefix + key for key, _ in model.get_submodule(parent).named_children()]
    known = [key for key in names if key]
    # Any number is similar to one that is too large.
    near = [] if name.removeprefix(prefix).isdecimal() else get_close_matches(name, known, 3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    where = f"{parent!r} has" if parent else "the network has"
    raise CrissCrossError(f"no submodule {name!r}; {hint}{where} {_some(members) or 'no members'}")


def _some(names: list[str], most: int = 8) -> str:
    """The names, without those in the middle where there are many."""
    if len(names) > most:
        names = [*names[: most - 3], "...", *names[-2:]]
    return ", ".join(names)


def probe(
    model: nn.Module, places: list[Place], example_inputs: Any, layout: str, select: int | str | None
) -> list[Tensor]:
    """The features at each place, from one pass in evaluation mode that leaves modes and statistics as they are.

    Raises:
        CrissCrossError: the pass fails, or a place is not reached exactly once, or has no features of this layout.
    """
    outputs: list[list[Any]] = [[] for _ in places]
    handles = [
        place.module.register_forward_hook(lambda _, inputs, output, values=values: values.append(output))
        for place, values in zip(places, outputs, strict=True)
    ]
    training = {module: module.training for module in model.modules()}
    args, kwargs = _call(example_inputs)
    try:
        for module in training:
            # Not eval(): networks override it, and with it train(), to keep some norms frozen.
            module.training = False
        with torch.no_grad():
            model(*args, **kwargs)
    except Exception as error:
        raise CrissCrossError(f"the network fails on example_inputs: {type(error).__name__}: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    return [_features(place, values, layout, select) for place, values in zip(places, outputs, strict=True)]


def _call(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example_inputs, dict):
        return (), example_inputs
    return (example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)), {}


def _features(place: Place, outputs: list[Any], layout: str, select: int | str | None) -> Tensor:
    if len(outputs) != 1:
        calls = "does not call it" if not outputs else f"calls it {len(outputs)} times, with attention each time"
        raise CrissCrossError(
            f"attention after {place.name}: one pass of the network {calls}; name a submodule that is called once"
            + (", or give channels= instead of example_inputs= if that is meant" if outputs else "")
        )
    (value,) = outputs
    if not isinstance(value, Tensor):
        value = value[selected(value, select, place.name)]
    channels = channels_of(value, layout, place.name)
    widths = {width for module in _weighted(place.named) for width in _widths(module)}
    if layout == "nchw" and channels not in widths and value.shape[-1] in widths:
        raise CrissCrossError(
            f"attention after {place.name}: the features {tuple(value.shape)} seem to have their channels last; "
            f"give layout='nhwc', or channels= instead of example_inputs= if they do not"
        )
    return value


def declared_channels(place: Place) -> int:
    """Channels by the submodule's last convolution and norm.

    Raises:
        CrissCrossError: it has none, or they disagree.
    """
    weighted = _weighted(place.named)
    layers = [module for module in weighted if len(_widths(module)) == 2]
    norms = [module for module in weighted if len(_widths(module)) == 1]
    if layers and isinstance(layers[-1], nn.Conv3d):
        raise CrissCrossError(f"attention after {place.name}: networks over video or volumes are not supported")
    found = {_widths(group[-1])[-1] for group in (layers, norms) if group}
    if len(found) == 1:
        return found.pop()
    why = f"its layers have {' and '.join(map(str, sorted(found)))}" if found else "it has no convolution or norm"
    raise CrissCrossError(
        f"attention after {place.name}: how many channels? {why}; give channels=, or example_inputs= to find out"
    )


def _weighted(module: nn.Module) -> list[nn.Module]:
    """Convolutions, linear layers and norms of the network itself, in the order of their registration."""
    if isinstance(module, InsertedAttention):
        return []
    inside = [found for child in module.children() for found in _weighted(child)]
    return [module, *inside] if _widths(module) else inside


def _widths(module: nn.Module) -> tuple[int, ...]:
    """(in, out) of a convolution or linear layer, (width,) of a norm, () of anything else."""
    if isinstance(module, _ConvNd | _ConvTransposeNd):
        return module.in_channels, module.out_channels
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    weight = getattr(module, "weight", None)
    if "Norm" in type(module).__name__ and isinstance(weight, Tensor) and weight.dim() == 1:
        return (len(weight),)
    return ()
