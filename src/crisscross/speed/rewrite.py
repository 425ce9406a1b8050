"""A copy of a network for inference: folded batch norms, channels-last memory, fewer multiplications.

This works for any network whose batch norms and 3 x 3 convolutions can be recognized.
"""

from collections import Counter
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import fx, nn

from crisscross.layers.modes import lay_out
from crisscross.layers.norm import AbsoluteBatchNorm2d
from crisscross.layers.plain_modules import is_plain
from crisscross.models import Segmenter
from crisscross.speed.winograd_layers import train_by_torch, use_winograd

Network = TypeVar("Network", bound=nn.Module)
# A module, the name of one part in it and that of the part that reads its output.
Pair = tuple[nn.Module, str, str]


def optimize(model: Network, winograd: bool = True) -> Network:
    """A copy for inference, in evaluation mode and without gradients; `model` is left as it is.

    Three steps: batch norms are folded into the convolutions before them, weights are laid out channels-last, and on a
    CPU 3 x 3 convolutions with many channels become `WinogradConv2d`. Outputs agree to float32
    rounding, not bit for bit. The Winograd weights take four times the memory of the ones they come from.

    A batch norm is folded only where `torch.fx` shows that it alone reads its convolution. In a module that fx cannot
    trace the parts are searched one by one, assuming that it calls them as a whole. Keep `model` for training
    and saving: the copy has no batch norms, so its weights fit no other network.

    Args:
        model: any network; a `crisscross.Segmenter` still predicts afterwards.
        winograd: False leaves out the third step and its memory.
    """
    network = deepcopy(model).eval().requires_grad_(False)
    if isinstance(network, Segmenter):
        # Only training asks for it.
        network.aux_head = None
        network.rewritten = True
    train_by_torch(network)
    fold_batch_norms(network)
    lay_out(network, torch.channels_last)
    if winograd:
        use_winograd(network)
    return network


def fold_batch_norms(network: nn.Module) -> int:
    """Fold batch norms in place where that is safe; returns their number. Needs evaluation mode."""
    owners = Counter(id(weight) for _, weight in network.named_parameters(remove_duplicate=False))
    folded = 0
    for root, conv_name, norm_name in _pairs(network, set()):
        conv, norm = root.get_submodule(conv_name), root.get_submodule(norm_name)
        # A weight with two names may have uses outside the trace.
        if _plain_convolution(conv) and _plain_norm(norm) and owners[id(conv.weight)] == 1:
            _fold(conv, norm)
            # The activation of timm's norm is a child; without children this is the identity.
            root.set_submodule(norm_name, nn.Sequential(*norm.children()))
            folded += 1
    return folded


class _Tracer(fx.Tracer):
    """Does not trace into convolutions, norms and `opaque` modules, so that each is one node."""

    def __init__(self, opaque: set[nn.Module]) -> None:
        super().__init__()
        self.opaque = opaque

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        stop = isinstance(m, nn.Conv2d | nn.BatchNorm2d | AbsoluteBatchNorm2d) or m in self.opaque
        return stop or super().is_leaf_module(m, module_qualified_name)


def _trace(module: nn.Module, opaque: set[nn.Module]) -> fx.Graph | None:
    """The graph of the module's calls of its parts, or None where fx cannot trace it."""
    try:
        return _Tracer(opaque).trace(module)
    # Tracing runs the network's own code on proxies of tensors, and that may fail in any way.
    except Exception:
        return None


def _pairs(module: nn.Module, opaque: set[nn.Module]) -> list[Pair]:
    """Pairs in a module; one that fx cannot trace is added to `opaque`, and only its parts are searched."""
    if graph := _trace(module, opaque):
        return _pairs_in(module, graph)
    inside = [pair for child in module.children() for pair in _pairs(child, opaque)]
    graph = _trace(module, opaque)
    if graph is None:
        opaque.add(module)
        return inside
    # The wider graph decides, except for what lies in opaque parts.
    seen = {module.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"}
    return _pairs_in(module, graph) + [pair for pair in inside if pair[0].get_submodule(pair[1]) not in seen]


def _pairs_in(module: nn.Module, graph: fx.Graph) -> list[Pair]:
    """Pairs of modules that run once each, the second as the only reader of the first."""
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    found = []
    for node in graph.nodes:
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or set(source.users) != {node}:
            continue
        if calls[node.target] == calls[source.target] == 1 and not _reads_inside(graph, source, node):
            found.append((module, str(source.target), str(node.target)))
    return found


def _reads_inside(graph: fx.Graph, *nodes: fx.Node) -> bool:
    """Whether the graph reads a weight of these modules directly."""
    prefixes = tuple(f"{node.target}." for node in nodes)
    return any(node.op == "get_attr" and str(node.target).startswith(prefixes) for node in graph.nodes)


def _plain_convolution(module: nn.Module) -> bool:
    """A convolution that is linear in its weight; timm's Conv2dSame differs from torch's in the padding alone."""
    from timm.layers.conv2d_same import Conv2dSame

    return is_plain(module, nn.Conv2d, Conv2dSame) and not module.weight.is_meta


def _plain_norm(module: nn.Module) -> bool:
    """A batch norm that applies stored statistics and nothing else but, in timm's, an activation."""
    from timm.layers.norm_act import BatchNormAct2d

    known = is_plain(module, nn.BatchNorm2d, nn.SyncBatchNorm, BatchNormAct2d, AbsoluteBatchNorm2d)
    return known and not module.training and module.running_mean is not None and not module.running_mean.is_meta


def _fold(conv: Any, norm: Any) -> None:
    """Scale and shift of the norm into weight and bias, computed in float64."""
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    weight = 1 if norm.weight is None else norm.weight.double()
    if isinstance(norm, AbsoluteBatchNorm2d):
        weight = norm.weight.double().abs() + norm.eps
    scale = (variance + norm.eps).rsqrt() * weight
    shift = (0 if norm.bias is None else norm.bias.double()) - mean * scale
    if conv.bias is not None:
        shift = shift + conv.bias.double() * scale
    folded = conv.weight.double() * scale[:, None, None, None]
    conv.weight = nn.Parameter(folded.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)
