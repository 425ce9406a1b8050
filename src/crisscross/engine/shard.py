"""Sharded training: each process holds its part of weights, gradients and optimizer state (torch's `fully_shard`).

Validation and files need all weights: `whole` gives a second network that holds them for as long as it is used.
Apart from `local` and `part_of`, all processes must call these together.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from crisscross.config import TrainConfig
from crisscross.errors import CrissCrossError
from crisscross.layers.modes import lay_out
from crisscross.losses.processes import processes


@dataclass(frozen=True)
class Shards:
    """What belongs to a sharded network: an ordinary one with empty parameters, and the shapes of its parameters."""

    mirror: nn.Module
    shapes: dict[str, torch.Size]


def check_shard(train: TrainConfig, compiled: bool) -> None:
    """Refuse what does not work together with `--shard`.

    Raises:
        CrissCrossError: fp16 or `--compile`.
    """
    if train.precision == "fp16":
        raise CrissCrossError("--shard and train.precision=fp16 cannot be used together: train in bf16 or fp32")
    if compiled:
        raise CrissCrossError("--shard and --compile cannot be used together: leave one out")


def shard(network: nn.Module, device: torch.device, mirror: nn.Module, step: Callable[[nn.Module], object]) -> None:
    """Keep this process's part of every parameter alone; a forward pass gathers one stage or head at a time.

    The network, the same in all processes, is changed in place and keeps its names. Parameters without dimensions get
    one. Optimizers have to be made afterwards.

    Args:
        network: on `device`.
        device: of this process.
        mirror: a second network of the same kind, whose weights are not needed.
        step: called with the network, it makes a forward pass as training does.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
    units = list(_units(network, step))
    _empty(mirror)
    mirror.to(device)
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not parameter.dim():
                setattr(module, name, nn.Parameter(parameter.detach().view(1), parameter.requires_grad))
    # fully_shard accepts no other memory format.
    network.to(memory_format=torch.contiguous_format)
    mesh = init_device_mesh(device.type, (processes(),))
    for part in [*map(network.get_submodule, units), network]:
        fully_shard(part, mesh=mesh)
        assert isinstance(part, FSDPModule)
        # gloo gives the sum where the mean is asked for (pytorch issue 162338).
        part.set_force_sum_reduction_for_comms(device.type == "cpu")
    network.shards = Shards(mirror, shapes)  # type: ignore[assignment]


def _units(network: nn.Module, step: Callable[[nn.Module], object]) -> Iterator[str]:
    """Names of the submodules that are sharded by themselves: the backbone's stages, and the heads.

    Weights are gathered when their submodule is called. Those of submodules that are never called are gathered with
    the network's.
    """
    called: set[str] = set()
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: called.add(name))
        for name, module in network.named_modules()
    ]
    former = [buffer.clone() for buffer in network.buffers()]
    network.train()
    with torch.no_grad():
        step(network)
    network.eval()
    for buffer, value in zip(network.buffers(), former, strict=True):
        buffer.copy_(value)
    for hook in hooks:
        hook.remove()
    stages = getattr(getattr(network, "backbone", None), "net", None)
    names = [f"backbone.net.{name}" for name, _ in stages.named_children()] if stages is not None else []
    names += [name for name, _ in network.named_children() if not names or name != "backbone"]
    for name in names:
        yield from _called(name, network.get_submodule(name), called)


def _called(name: str, module: nn.Module, called: set[str]) -> Iterator[str]:
    """The module, or where it is not called, what is called in it."""
    if not any(True for _ in module.children()) or not any(True for _ in module.parameters()):
        return
    if name in called:
        yield name
        return
    for below, child in module.named_children():
        yield from _called(f"{name}.{below}", child, called)


def _empty(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter.data = parameter.data.new_empty(0)


def _shards(network: nn.Module) -> Shards | None:
    return network.__dict__.get("shards")


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds; all of it where it is not sharded."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def part_of(whole: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, spread over the processes as another is, on its device, in its memory format."""
    moved = whole.to(like.device)
    if not hasattr(like, "to_local"):
        # Files hold contiguous tensors; arithmetic on two memory formats at once is slow.
        return torch.empty_like(like.detach(), dtype=moved.dtype).copy_(moved) if moved.shape == like.shape else moved
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    # Every process has the whole, so nothing has to be sent.
    return distribute_tensor(moved.reshape(like.shape), like.device_mesh, like.placements, src_data_rank=None)


@contextmanager
def whole(network: nn.Module, keep: bool = True) -> Iterator[Any]:
    """Inside, an ordinary network with all weights and this process's running statistics; a plain network is its own.

    Without `keep` this process helps the others to get theirs, and its own stays without content.
    """
    shards = _shards(network)
    if shards is None:
        yield network
        return
    own = dict(shards.mirror.named_parameters())
    try:
        for name, parameter in network.named_parameters():
            full = _full(parameter.detach(), shards.shapes[name])
            if keep:
                own[name].data = full
        lay_out(shards.mirror, torch.channels_last)
        _copy_buffers(network, shards.mirror)
        yield shards.mirror
    finally:
        _empty(shards.mirror)


@torch.no_grad()
def take(network: nn.Module, full: nn.Module) -> None:
    """Copy the tensors of the network that `whole` gave back into this process's parts."""
    if full is network:
        return
    values = dict(full.named_parameters())
    for name, parameter in network.named_parameters():
        local(parameter).copy_(local(part_of(values[name], parameter)))
    _copy_buffers(full, network)


def whole_states(network: nn.Module, optimizer: torch.optim.Optimizer, keep: bool = True) -> dict[str, Tensor]:
    """The optimizer's tensors by parameter and name, such as `head.fuse.conv.weight/momentum_buffer`; none without
    `keep`. Those of a sharded network are on the CPU."""
    shards, found = _shards(network), {}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                full = value if shards is None else _full(value, shards.shapes[name]).cpu()
                if keep:
                    found[f"{name}/{key}"] = full
    return found


def _full(tensor: Tensor, shape: torch.Size) -> Tensor:
    return tensor.full_tensor().view(shape) if hasattr(tensor, "full_tensor") else tensor


def _copy_buffers(source: nn.Module, target: nn.Module) -> None:
    values = dict(source.named_buffers())
    for name, buffer in target.named_buffers():
        buffer.copy_(values[name])
