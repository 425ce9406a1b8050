"""One door to every way of computing criss-cross attention, for q, k and v and for a whole layer."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crisscross.ops import composite, reference
from crisscross.ops.block import Weights
from crisscross.ops.lines import Reach

WhyNot = Callable[[Tensor, Tensor, Tensor, Reach], str | None]
Attention = Callable[[Tensor, Tensor, Tensor, Reach], Tensor]
LayerBlock = Callable[[Tensor, Weights, Reach, bool, str], Tensor]
AXES = ("both", "row", "column")
MEMORY = ("auto", "fast", "lean")
# Types of devices on which `auto` tries the kernels first.
WITH_KERNELS = ("cuda",)


class Backend(NamedTuple):
    """One way of computing criss-cross attention: a row of `BACKENDS`, for the operators and the layers alike.

    Tensors are [B, channels, H, W], or [B, channels, T, H, W] where `reach.frames` is T; their strides may be any.

    Fields:
        why_not: (q, k, v, reach) -> why it cannot run on tensors of these shapes, dtypes and devices, None where it
            can. Nothing else about the tensors counts: a layer asks with stand-ins before it projects.
        attention: (q, k, v, reach) -> the attended values, with the shape and dtype of v.
        block: (x, weights, reach, residual, memory) -> a whole layer, as in `criss_cross_block`; without `residual` the
            first term is left out. None: the layer projects x to q, k and v and calls `attention`; `memory` has no
            effect then.
    """

    why_not: WhyNot
    attention: Attention
    block: LayerBlock | None = None

    def layer(self, x: Tensor, weights: Weights, reach: Reach, residual: bool, memory: str) -> Tensor:
        """What `block` gives; without one, x is projected for `attention`."""
        if self.block is not None:
            return self.block(x, weights, reach, residual, memory)
        (x_BHWC,) = _channels_last(x)
        q_BHWD, k_BHWD = functional.linear(x_BHWC, weights.qk, weights.qk_bias).chunk(2, -1)
        # The gate is in the value projection.
        v_BHWC = functional.linear(x_BHWC, weights.value, weights.value_bias)
        q, k, v = map(_channels_first, (q_BHWD, k_BHWD, v_BHWC))
        attended = self.attention(q, k, v, reach)
        return x + attended if residual else attended


def _why_not_registered(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> str | None:
    if transforms_active():
        return "torch.func transforms and forward-mode differentiation need backend='composite'"
    return None


def transforms_active() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is under way; torch names no public way."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def _why_not_fused(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> str | None:
    if reason := _why_not_registered(q, k, v, reach):
        return reason
    if reach.row_bias is not None or reach.column_bias is not None:
        return "it knows no position bias"
    if q.device.type != "cuda" and q.device.type != "cpu":
        return f"it runs on CUDA devices, not on {q.device.type}"
    # Triton is imported for a GPU, or where it was asked for by name.
    from crisscross.ops import fused

    q_BHWD, k_BHWD, v_BHWC = _channels_last(q, k, v)
    return fused.why_not(q_BHWD, k_BHWD, v_BHWC, reach.axis)


def _channels_last(*tensors: Tensor) -> list[Tensor]:
    """[B, channels, (T,) H, W] -> [B, (T,) H, W, channels], no copies."""
    return [x.permute(0, *range(2, x.dim()), 1) for x in tensors]


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, -1, *range(1, x.dim() - 1))


def _as_map(x: Tensor) -> Tensor:
    """A clip [B, T, H, W, channels] as a map [B, T H, W, channels]; a map as it is."""
    return x.flatten(1, 2) if x.dim() == 5 else x


def _registered(why_not: WhyNot, fused: bool) -> Backend:
    """The operators of registered.py: on the Triton kernels, or some lines at a time."""

    def attention(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> Tensor:
        from crisscross.ops import registered

        q_BHWD, k_BHWD, v_BHWC = map(_as_map, _channels_last(q, k, v))
        axis, *biases, frames = reach
        out_BHWC, _ = registered.attention(q_BHWD, k_BHWD, v_BHWC, *biases, axis, frames, fused)
        return _channels_first(out_BHWC if v.dim() == 4 else out_BHWC.unflatten(1, v.shape[2:4]))

    def block(x: Tensor, weights: Weights, reach: Reach, residual: bool, memory: str) -> Tensor:
        from crisscross.ops import registered

        keep = memory != "lean" and torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights))
        axis, *biases, frames = reach
        (x_BHWC,) = map(_as_map, _channels_last(x))
        y_BHWC = registered.block(x_BHWC, *weights, *biases, axis, frames, residual, keep, fused)[0]
        return _channels_first(y_BHWC if x.dim() == 4 else y_BHWC.unflatten(1, x.shape[2:4]))

    return Backend(why_not, attention, block)


def _composite(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> Tensor:
    q_BHWD, k_BHWD, v_BHWC = _channels_last(q, k, v)
    return _channels_first(composite.attention(q_BHWD, k_BHWD, v_BHWC, reach))


def _composite_block(x: Tensor, weights: Weights, reach: Reach, residual: bool, memory: str) -> Tensor:
    (x_BHWC,) = _channels_last(x)
    return _channels_first(composite.block(x_BHWC, weights, reach, residual))


def _reference(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> Tensor:
    if v.dim() == 5:
        return reference.criss_cross_attention_3d_reference(q, k, v)
    biases = (None if bias is None else bias.to(q.dtype) for bias in (reach.row_bias, reach.column_bias))
    return reference.criss_cross_attention_reference(q, k, v, reach.axis, *biases)


def _always(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> str | None:
    return None


BACKENDS: dict[str, Backend] = {
    "fused": _registered(_why_not_fused, fused=True),
    "eager": _registered(_why_not_registered, fused=False),
    "composite": Backend(_always, _composite, _composite_block),
    "reference": Backend(_always, _reference),
}


def criss_cross_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    backend: str = "auto",
    *,
    axis: str = "both",
    scale: float | None = None,
    row_bias: Tensor | None = None,
    column_bias: Tensor | None = None,
) -> Tensor:
    """Each position attends to its own row and column (paper, section 3.2): H + W - 1 positions, itself once.

    Args:
        q: queries [B, D, H, W], floating point.
        k: keys [B, D, H, W], same dtype and device.
        v: values [B, C, H, W], same dtype and device.
        backend: `auto` (the best that can run; never fails), `fused` (Triton, on a GPU), `eager`, `composite` (plain
            operations; taken for export) or `reference` (the definition).
        axis: `both`; `row` or `column` attend along that line alone, itself included (axial attention).
        scale: multiplies the logits, 1 / sqrt(D) for instance; None, as published, leaves them.
        row_bias: [W, W], added to the logits along a row at [asking column, answering column]; -inf hides.
        column_bias: [H, H], along a column at [asking row, answering row]; see `relative_position_bias`.

    Returns:
        [B, C, H, W] in the dtype of the inputs. Under autocast the inputs are brought to the autocast dtype; logits and
        softmax of half precision are float32 always.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, `axis` or `backend` is unknown, or the backend cannot run (the
            reason is named).
    """
    q, k, v = to_autocast(q, k, v)
    check_tensors(q, k, v)
    reach = check_reach(axis, row_bias, column_bias, v)
    if scale is not None:
        q = q * scale
    return BACKENDS[choose(backend, q, k, v, reach)].attention(q, k, v, reach)


def criss_cross_block(
    x: Tensor,
    weights: Weights,
    *,
    reach: Reach,
    memory: str = "auto",
    backend: str = "auto",
) -> Tensor:
    """A whole layer: x + attention(q(x), k(x), x) W + b, where W and b are value projection times gate.

    Attention is that of `criss_cross_attention`, and on clips that of `criss_cross_attention_3d`.

    As the weights of a position sum to 1, this is x + gamma * attention(q(x), k(x), v(x)); see block.py.

    Args:
        x: [B, C, H, W] or [B, C, T, H, W].
        weights: query and key projections, one below the other, [2 D, C] and [2 D]; value projection times gate,
            [C, C] and [C].
        reach: which positions are attended to.
        memory: what training keeps beside x: `fast` q, k, what attention gave and its statistics; `lean` the
            statistics alone; `auto` is `fast`. Without gradients nothing is kept. Backends without a block of their
            own keep what torch's autograd keeps.
        backend: as for `criss_cross_attention`.

    Returns:
        x's shape, dtype and memory format.

    Raises:
        ValueError: x does not fit the weights or lies on another device, or the backend is unknown or cannot run.
    """
    channels = weights.value.shape[0]
    if x.dim() not in (4, 5) or x.shape[1] != channels:
        sizes = "T, H, W" if x.dim() == 5 else "H, W"
        raise ValueError(f"x must be [B, {channels}, {sizes}], got {tuple(x.shape)}")
    if any(weight.device != x.device for weight in weights):
        found = " and ".join(sorted({str(weight.device) for weight in weights}))
        raise ValueError(f"x is on {x.device}, the layer on {found}: move one of them, as in layer.to(x.device)")
    if x.dim() == 5:
        reach = reach._replace(frames=x.shape[2])
    x_cast, *cast = to_autocast(x, *weights)
    if any(weight.dtype != x_cast.dtype for weight in cast):
        found = " and ".join(sorted({str(weight.dtype) for weight in cast}))
        raise ValueError(f"x is {x_cast.dtype}, the layer {found}: convert one of them, as in layer.to(x.dtype)")
    weights = Weights(*cast)
    q_like = x_cast[:, : weights.qk.shape[0] // 2]
    chosen = BACKENDS[choose(backend, q_like, q_like, x_cast, reach)]
    # Under autocast a float32 input keeps its precision beside what attention adds to it.
    residual = x_cast.dtype == x.dtype
    y = chosen.layer(x_cast, weights, reach, residual, memory)
    if x.stride(1) != 1:
        y = y.contiguous()
    return y if residual else x + y.to(x.dtype)


def check_backend(backend: str) -> None:
    """Raises ValueError for a name that is neither `auto` nor a row of `BACKENDS`."""
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; known: auto, {', '.join(BACKENDS)}")


def choose(backend: str, q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> str:
    """The name of the backend to use. Raises ValueError for one that is unknown or cannot run."""
    check_backend(backend)
    if backend == "auto":
        return _best(q, k, v, reach)
    if reason := BACKENDS[backend].why_not(q, k, v, reach):
        raise ValueError(f"backend {backend!r} cannot run here: {reason}")
    return backend


def _best(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> str:
    """What `auto` stands for."""
    # An exported graph holds plain operations only, so that it runs where this package is not.
    exporting = torch.compiler.is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined]
    if exporting or _why_not_registered(q, k, v, reach):
        return "composite"
    if v.device.type not in WITH_KERNELS or BACKENDS["fused"].why_not(q, k, v, reach):
        return "eager"
    from crisscross.ops import trial

    # They can run; have they been right on this device in this dtype?
    return "fused" if trial.passed(v.device, v.dtype) else "eager"


def to_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in autocast's dtype where it is on; all stay as they are with float64 or whole numbers among them."""
    device = tensors[0].device.type
    # Meta tensors know no autocast.
    if device == "meta" or not torch.is_autocast_enabled(device):
        return tensors
    if any(x.dtype == torch.float64 or not x.is_floating_point() for x in tensors):
        return tensors
    return tuple(x.to(torch.get_autocast_dtype(device)) for x in tensors)


def check_reach(axis: str, row_bias: Tensor | None, column_bias: Tensor | None, v: Tensor) -> Reach:
    """The reach on the maps `v` [B, C, H, W]. Raises ValueError where it does not fit them."""
    if axis not in AXES:
        raise ValueError(f"axis must be one of {', '.join(AXES)}, got {axis!r}")
    for name, bias, length, other in (
        ("row_bias", row_bias, v.shape[-1], "column"),
        ("column_bias", column_bias, v.shape[-2], "row"),
    ):
        if bias is None:
            continue
        if axis == other:
            raise ValueError(f"{name} has no meaning with axis={axis!r}")
        if bias.shape != (length, length):
            raise ValueError(f"{name} must be [{length}, {length}], got {tuple(bias.shape)}")
        if bias.device != v.device or not bias.is_floating_point():
            raise ValueError(f"{name} must be floating point on {v.device}, got {bias.dtype} on {bias.device}")
    return Reach(axis, row_bias, column_bias)


def check_tensors(q: Tensor, k: Tensor, v: Tensor, dims: int = 4) -> None:
    """Raises ValueError where q, k and v of so many dimensions do not fit each other."""
    if q.dim() != dims or v.dim() != dims:
        sizes = "T, H, W" if dims == 5 else "H, W"
        raise ValueError(
            f"q, k and v must be [B, channels, {sizes}], got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
        )
    if q.shape != k.shape:
        raise ValueError(f"q and k must have one shape, got {tuple(q.shape)} and {tuple(k.shape)}")
    if q.shape[0] != v.shape[0] or q.shape[2:] != v.shape[2:]:
        sizes = "batch, time, height and width" if dims == 5 else "batch, height and width"
        raise ValueError(f"v must share {sizes} with q, got {tuple(v.shape)} and {tuple(q.shape)}")
    if not q.dtype == k.dtype == v.dtype or not q.is_floating_point():
        raise ValueError(f"q, k and v must share one floating dtype, got {q.dtype}, {k.dtype} and {v.dtype}")
    if not q.device == k.device == v.device:
        raise ValueError(f"q, k and v must be on one device, got {q.device}, {k.device} and {v.device}")
