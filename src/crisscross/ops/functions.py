"""Criss-cross attention as functions, of images, of clips and as a whole layer; they check their arguments."""

import torch
from torch import Tensor

from crisscross.ops.block import Weights
from crisscross.ops.dispatch import BACKENDS, choose
from crisscross.ops.lines import AXES, Reach

MEMORY = ("fast", "lean")


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
            operations; used for export), `reference` (the definition) or the name of a row added to `BACKENDS`.
        axis: `both`; `row` or `column` attend along that line alone, itself included (axial attention).
        scale: multiplies the logits, 1 / sqrt(D) for instance; None, as published, leaves them.
        row_bias: [W, W], added to the logits along a row at [column of the query, column of the key]; -inf masks.
        column_bias: [H, H], along a column at [row of the query, row of the key]; see `relative_position_bias`.

    Returns:
        [B, C, H, W] in the dtype of the inputs. Under autocast the inputs are brought to the autocast dtype; logits and
        softmax of half precision are float32 always.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, `axis` or `backend` is unknown, or the backend cannot run (the
            reason is named).
    """
    check_dimensions(q, k, v, "H, W")
    return attend(q, k, v, backend, axis, scale, row_bias, column_bias)


def criss_cross_attention_3d(q: Tensor, k: Tensor, v: Tensor, backend: str = "auto") -> Tensor:
    """Each position attends to its own row, column and time line (paper, 3-D CCNet): T + H + W - 2, itself once.

    With one frame this is `criss_cross_attention`.

    Args:
        q: queries [B, D, T, H, W], floating point.
        k: keys [B, D, T, H, W], same dtype and device.
        v: values [B, C, T, H, W], same dtype and device.
        backend: as for `criss_cross_attention`.

    Returns:
        [B, C, T, H, W] in the dtype of the inputs, under autocast in its dtype; logits and softmax of half precision
        are float32 always.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, or the backend is unknown or cannot run (the reason is named).
    """
    check_dimensions(q, k, v, "T, H, W")
    return attend(q, k, v, backend)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    backend: str,
    axis: str = "both",
    scale: float | None = None,
    row_bias: Tensor | None = None,
    column_bias: Tensor | None = None,
) -> Tensor:
    """`criss_cross_attention` of images or `criss_cross_attention_3d` of clips, by the number of dimensions."""
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
    memory: str = "fast",
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
        memory: what training keeps beside x: `fast` q, k, the attended values and the statistics; `lean` the
            statistics alone. Without gradients nothing is kept. Backends without a block of their own keep what
            torch's autograd keeps.
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


def to_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in autocast's dtype where it is on; all stay as they are with float64 or whole numbers among them."""
    device = tensors[0].device.type
    # There is no autocast for meta tensors.
    if device == "meta" or not torch.is_autocast_enabled(device):
        return tensors
    if any(x.dtype == torch.float64 or not x.is_floating_point() for x in tensors):
        return tensors
    return tuple(x.to(torch.get_autocast_dtype(device)) for x in tensors)


def check_reach(axis: str, row_bias: Tensor | None, column_bias: Tensor | None, v: Tensor) -> Reach:
    """The reach on values [B, C, (T,) H, W]. Raises ValueError where it does not fit them."""
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
    return Reach(axis, row_bias, column_bias, v.shape[2] if v.dim() == 5 else 1)


def check_dimensions(q: Tensor, k: Tensor, v: Tensor, sizes: str) -> None:
    """Raises ValueError where the tensors are not [B, channels, `sizes`]."""
    dims = 3 + sizes.count(",")
    if not q.dim() == k.dim() == v.dim() == dims:
        shapes = ", ".join(str(tuple(x.shape)) for x in (q, k, v))
        raise ValueError(f"q, k and v must be [B, channels, {sizes}], got {shapes}")


def check_tensors(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raises ValueError where q, k and v do not fit each other."""
    if q.shape != k.shape:
        raise ValueError(f"q and k must have one shape, got {tuple(q.shape)} and {tuple(k.shape)}")
    if q.shape[0] != v.shape[0] or q.shape[2:] != v.shape[2:]:
        sizes = "batch, time, height and width" if v.dim() == 5 else "batch, height and width"
        raise ValueError(f"v must share {sizes} with q, got {tuple(v.shape)} and {tuple(q.shape)}")
    if not q.dtype == k.dtype == v.dtype or not q.is_floating_point():
        raise ValueError(f"q, k and v must share one floating dtype, got {q.dtype}, {k.dtype} and {v.dtype}")
    if not q.device == k.device == v.device:
        raise ValueError(f"q, k and v must be on one device, got {q.device}, {k.device} and {v.device}")
