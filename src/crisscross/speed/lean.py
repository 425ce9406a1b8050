"""Training in less memory: results of batch norms and activations are computed again in backward, not kept.

`make_lean` leaves modules, names and weights as they are and adds hooks. What is computed again has the same bits on a
CPU, and no convolution is repeated.
"""

import sys
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crisscross.layers.norm import AbsoluteBatchNorm2d
from crisscross.layers.plain_modules import is_plain
from crisscross.speed import recipes
from crisscross.speed.recipes import Recipe

# A residual sum is made from the sum before it: this many in a row are computed again and held together.
LONGEST_CHAIN = 6
NORMS = (nn.BatchNorm2d, AbsoluteBatchNorm2d)
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU)


def make_lean(network: nn.Module) -> int:
    """Let training keep less; returns the number of batch norms whose results are computed again instead of kept.

    Args:
        network: any network; changed in place. Unknown modules are left as they are, among them norms that are not
            in `NORMS`, such as `nn.SyncBatchNorm`, whose results depend on other processes.
    """
    count = 0
    for module in network.modules():
        if type(module) in NORMS:
            module.register_forward_hook(_after_norm)
            count += 1
        elif type(module) in ACTIVATIONS and module.inplace:
            module.register_forward_pre_hook(_before_activation)
        elif (parts := _parts(module)) and "forward" not in module.__dict__:
            module.lean_parts = parts  # type: ignore[assignment]
            module.forward = MethodType(_residual_forward, module)
    network.lean_forward = network.forward  # type: ignore[assignment]
    network.forward = MethodType(_network_forward, network)  # type: ignore[method-assign]
    return count


def _network_forward(network: Any, *inputs: Any, **options: Any) -> Any:
    if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and network.training):
        return network.lean_forward(*inputs, **options)
    with recipes.rebuilding():
        return network.lean_forward(*inputs, **options)


def _after_norm(norm: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    if not recipes.active() or output.grad_fn is None or not is_plain(norm, *NORMS, own_hooks=1):
        return
    (x,) = inputs
    scale = norm.scale() if isinstance(norm, AbsoluteBatchNorm2d) else norm.weight
    scale = torch.ones(x.shape[1], device=x.device) if scale is None else scale.detach()
    shift = torch.zeros_like(scale) if norm.bias is None else norm.bias.detach().clone()
    if norm.training or norm.running_mean is None:
        mean, inverse = (getattr(output.grad_fn, f"_saved_result{index}", None) for index in (1, 2))
        if mean is None or inverse is None or not mean.numel():
            return
        # Attached, they would hold the graph of the norm.
        mean, inverse = mean.detach(), inverse.detach()
        # With a variance of 1 and no epsilon, this is the arithmetic of the norm itself.
        variance, scale, eps = torch.ones_like(mean), scale * inverse, 0.0
    else:
        mean, variance, scale, eps = norm.running_mean.clone(), norm.running_var.clone(), scale.clone(), norm.eps

    def make(z: Tensor, owned: bool) -> Tensor:
        # `functional.batch_norm` of torch 2.11 refuses an epsilon of 0.
        return torch.batch_norm(z, scale, shift, mean, variance, False, 0.0, eps, torch.backends.cudnn.enabled)

    recipes.record(output, Recipe(output, make, recipes.recipe_of(x) or x))


def _before_activation(activation: Any, inputs: tuple[Tensor]) -> None:
    if not recipes.active() or not is_plain(activation, *ACTIVATIONS, own_hooks=1):
        return
    (x,) = inputs
    source = recipes.recipe_of(x)
    if source is None or source.length > LONGEST_CHAIN:
        return
    slope = activation.negative_slope if isinstance(activation, nn.LeakyReLU) else None

    def make(z: Tensor, owned: bool) -> Tensor:
        return functional.relu(z, owned) if slope is None else functional.leaky_relu(z, slope, owned)

    recipe = Recipe(x, make, source, length=source.length)
    # The activation is about to overwrite x, and keeps its result.
    recipe.version += 1
    recipes.record(x, recipe)


def _parts(module: Any) -> tuple[str, ...]:
    """The submodules that a residual block of timm's ResNet calls between its input and the sum, in order."""
    resnet = sys.modules.get("timm.models.resnet")
    if resnet is None:
        return ()
    if type(module) is resnet.Bottleneck:
        return "conv1", "bn1", "act1", "conv2", "bn2", "drop_block", "act2", "aa", "conv3", "bn3", "se", "drop_path"
    if type(module) is resnet.BasicBlock:
        return "conv1", "bn1", "drop_block", "act1", "aa", "conv2", "bn2", "se", "drop_path"
    return ()


def _residual_forward(block: Any, x: Tensor) -> Tensor:
    """The forward of the block, with a recipe for its sum."""
    branch, shortcut = x, x
    for name in block.lean_parts:
        part = getattr(block, name)
        if part is not None:
            branch = part(branch)
    if block.downsample is not None:
        shortcut = block.downsample(x)
    source = recipes.recipe_of(branch) if recipes.active() else None
    branch += shortcut
    if source is not None:
        other = recipes.recipe_of(shortcut) or shortcut
        length = 1 + (other.length if isinstance(other, Recipe) else 0)

        def make(a: Tensor, owned: bool, b: Tensor) -> Tensor:
            return (a if owned else a.clone()).add_(b)

        recipes.record(branch, Recipe(branch, make, source, other, length=length))
    return (block.act3 if hasattr(block, "act3") else block.act2)(branch)
