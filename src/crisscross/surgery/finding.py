"""Where attention goes: submodules by name, and how many channels pass there."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from crisscross.errors import CrissCrossError
from crisscross.surgery.inserted import AFTER, BEFORE, InsertedAttention, arguments, channels_of, choose

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Place(NamedTuple):
    """One end of one submodule."""

    name: str
    module: nn.Module
    before: bool
    # As named: the module itself, or an `nn.Sequential` that it ends, whose other members tell more.
    named: nn.Module

    def __str__(self) -> str:
        return f"{'before' if self.before else 'after'} {self.name}"

    @property
    def child(self) -> str:
        """The name that attention takes inside the submodule."""
        return BEFORE if self.before else AFTER


def find_places(model: nn.Module, after: str | Sequence[str], before: str | Sequence[str]) -> list[Place]:
    """The submodules of these names; of an `nn.Sequential` its last or first member, whose output or input is the same.

    Raises:
        CrissCrossError: a name is none of the network, is given twice, or is a container that is not called.
    """
    places = [_place(model, name, False) for name in _listed(after)]
    places += [_place(model, name, True) for name in _listed(before)]
    if not places:
        raise CrissCrossError("where? give after= or before= the name of a submodule, such as after='layer3.5'")
    for number, place in enumerate(places):
        if any(place.module is other.module and place.before == other.before for other in places[:number]):
            raise CrissCrossError(f"the same place is named twice: {place}")
    return places


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _place(model: nn.Module, name: str, before: bool) -> Place:
    module = named = _submodule(model, name)
    while isinstance(module, CONTAINERS):
        members = [key for key, _ in module.named_children() if key not in (AFTER, BEFORE)]
        if not members:
            raise CrissCrossError(f"{name!r} is an empty {type(module).__name__}; name another submodule")
        if type(module).forward is not nn.Sequential.forward:
            # An extra child would be run, or counted, by code that goes through the members.
            raise CrissCrossError(
                f"{name!r} is a container ({type(module).__name__}); name one of its members: "
                + _some([f"{name}.{member}" for member in members])
            )
        name = f"{name}.{members[0 if before else -1]}"
        module = model.get_submodule(name)
    if isinstance(module, torch.jit.ScriptModule):
        raise CrissCrossError(f"{name!r} is a torch.jit module, which takes no attention; insert before scripting")
    return Place(name, module, before, named)


def _submodule(model: nn.Module, name: str) -> nn.Module:
    names = dict(model.named_modules(remove_duplicate=False))
    if name and name in names:
        return names[name]
    # The longest beginning that exists says more than a likeness where a number is too large.
    parent = name.rpartition(".")[0]
    while parent and parent not in names:
        parent = parent.rpartition(".")[0]
    prefix = f"{parent}." if parent else ""
    members = [prefix + key for key, _ in model.get_submodule(parent).named_children()]
    known = [key for key in names if key]
    # A number too large is like any other number.
    near = [] if name.removeprefix(prefix).isdecimal() else get_close_matches(name, known, 3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    where = f"{parent!r} has" if parent else "the network has"
    raise CrissCrossError(f"no submodule {name!r}; {hint}{where} {_some(members) or 'no members'}")


def _some(names: list[str], most: int = 8) -> str:
    """The names, those in the middle left out where there are many."""
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
    seen: list[list[Any]] = [[] for _ in places]
    handles = [_listen(place, values) for place, values in zip(places, seen, strict=True)]
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
    return [_features(place, values, layout, select) for place, values in zip(places, seen, strict=True)]


def _listen(place: Place, seen: list[Any]) -> Any:
    if place.before:
        return place.module.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(arguments(args, kwargs)), with_kwargs=True
        )
    return place.module.register_forward_hook(lambda _, inputs, output: seen.append(output))


def _call(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example_inputs, dict):
        return (), example_inputs
    return (example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)), {}


def _features(place: Place, seen: list[Any], layout: str, select: int | str | None) -> Tensor:
    if len(seen) != 1:
        calls = "does not call it" if not seen else f"calls it {len(seen)} times, with attention each time"
        raise CrissCrossError(
            f"attention {place}: one pass of the network {calls}; name a submodule that is called once"
            + (", or give channels= instead of example_inputs= if that is meant" if seen else "")
        )
    (value,) = seen
    if not isinstance(value, Tensor):
        value = value[choose(value, select, str(place))]
    channels = channels_of(value, layout, str(place))
    widths = {width for module in _weighted(place.named) for width in _widths(module)}
    if layout == "nchw" and channels not in widths and value.shape[-1] in widths:
        raise CrissCrossError(
            f"attention {place}: the features {tuple(value.shape)} seem to have their channels last; "
            f"give layout='nhwc', or channels= instead of example_inputs= if they do not"
        )
    return value


def declared_channels(place: Place) -> int:
    """Channels told by the submodule's last (`before`: first) convolution and norm.

    Raises:
        CrissCrossError: it has none, or they disagree.
    """
    weighted = _weighted(place.named)
    layers = [module for module in weighted if len(_widths(module)) == 2]
    norms = [module for module in weighted if len(_widths(module)) == 1]
    end = 0 if place.before else -1
    if layers and isinstance(layers[end], nn.Conv3d):
        raise CrissCrossError(f"attention {place}: networks over video or volumes are not supported")
    found = {_widths(group[end])[end] for group in (layers, norms) if group}
    if place.before and layers and weighted[0] is layers[0]:
        # A norm that comes after the first convolution has the width of its output.
        found = {_widths(layers[0])[0]}
    if len(found) == 1:
        return found.pop()
    why = f"its layers speak of {' and '.join(map(str, sorted(found)))}" if found else "it has no convolution or norm"
    raise CrissCrossError(
        f"attention {place}: how many channels? {why}; give channels=, or example_inputs= to find out by a pass"
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
