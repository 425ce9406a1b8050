"""The truth about criss-cross attention and the comparison with it, for every test of the operator.

The loop was written from the definition, uses no matrix product over positions and derives its gradients by hand.
"""

import numpy as np
import torch

from crisscross.ops import criss_cross_attention_reference

RESULTS = ("output", "gradient of q", "gradient of k", "gradient of v", "gradient of a bias", "gradient of a bias")


def cross(h, w, height, width, axis="both"):
    """The H + W - 1 positions of a row and a column, the center once; or those of one line alone."""
    row = [(h, j) for j in range(width)]
    if axis == "row":
        return row
    column = [(i, w) for i in range(height)]
    return column if axis == "column" else row + [place for place in column if place != (h, w)]


def loop(q, k, v, g, axis="both", row_bias=None, column_bias=None):
    """Output and gradients (for an incoming gradient g) by definition, one position at a time: float64 tensors.

    The gradients of the biases that are given come last, that of the row first.
    """
    q, k, v, g = (x.detach().double().numpy() for x in (q, k, v, g))
    out, dq, dk, dv = (np.zeros(x.shape) for x in (v, q, k, v))
    biases = {"row": row_bias, "column": column_bias}
    biases = {name: bias.detach().double().numpy() for name, bias in biases.items() if bias is not None}
    rises = {name: np.zeros(bias.shape) for name, bias in biases.items()}
    for b, h, w in np.ndindex(q.shape[0], *q.shape[2:]):
        places = cross(h, w, *q.shape[2:], axis)
        # Which line a place was reached along, and where in its bias that stands; the center is in its row if it can.
        along = [("row", (w, j)) if i == h and axis != "column" else ("column", (h, i)) for i, j in places]
        logits = np.array([q[b, :, h, w] @ k[b, :, i, j] for i, j in places])
        logits += [biases[name][at] if name in biases else 0.0 for name, at in along]
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        gain = np.array([g[b, :, h, w] @ v[b, :, i, j] for i, j in places])
        slope = weights * (gain - weights @ gain)
        for (i, j), (name, at), weight, rise in zip(places, along, weights, slope, strict=True):
            out[b, :, h, w] += weight * v[b, :, i, j]
            dv[b, :, i, j] += weight * g[b, :, h, w]
            dq[b, :, h, w] += rise * k[b, :, i, j]
            dk[b, :, i, j] += rise * q[b, :, h, w]
            if name in rises:
                rises[name][at] += rise
    return [torch.from_numpy(x) for x in (out, dq, dk, dv, *rises.values())]


def draw(shape, dtype=torch.float64, seed=0):
    """q, k, v and an incoming gradient; values that `dtype` holds exactly, so that all share one truth."""
    batch, inner, outer, height, width = shape
    chance = torch.Generator().manual_seed(seed)
    sizes = [(batch, channels, height, width) for channels in (inner, inner, outer, outer)]
    return [torch.randn(size, generator=chance, dtype=torch.float64).to(dtype) for size in sizes]


def run(operator, q, k, v, g, **options):
    """Output and gradients of an operator, as float64; those of biases among the options come last."""
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    biases = [options[name].detach().requires_grad_() for name in ("row_bias", "column_bias") if name in options]
    options.update(zip([name for name in ("row_bias", "column_bias") if name in options], biases, strict=True))
    out = operator(q, k, v, **options)
    assert out.dtype == v.dtype and out.shape == v.shape
    # A broken operator may leave an input unused: its gradient is 0.
    gradients = torch.autograd.grad(out, (q, k, v, *biases), g, allow_unused=True, materialize_grads=True)
    return [x.detach().double() for x in (out, *gradients)]


def worst(found, truth):
    return (found - truth).abs().max().item() if truth.numel() else 0.0


def spread(x):
    """Root of the mean square."""
    return x.square().mean().sqrt().item() if x.numel() else 0.0


def disagreements(operator, q, k, v, g, *, loop=loop, definition=criss_cross_attention_reference, **options):
    """What of output and gradients is further from the float64 truth than allowed; an empty list is agreement.

    float64: no value off by more than 1e-12 of the largest. Below that: root-mean-square error at most twice that of
    the definition computed in the same dtype, and never asked to be below one unit in the last place of the values'
    own root mean square, because luck may bring the other's error near 0. Over clips, loop and definition are others.
    """
    double = q.dtype == torch.float64
    found, truths = run(operator, q, k, v, g, **options), loop(q, k, v, g, **options)
    plain = truths if double else run(definition, q, k, v, g, **options)
    wrong = []
    for name, value, other, truth in zip(RESULTS, found, plain, truths, strict=False):
        if double:
            error, limit = worst(value, truth), 1e-12 * max(1.0, worst(truth, 0 * truth))
        else:
            error, limit = (
                spread(value - truth),
                max(2 * spread(other - truth), torch.finfo(q.dtype).eps * spread(truth)),
            )
        # Written so that NaN disagrees.
        if not error <= limit:
            wrong.append(f"{name}: {error:.3g}, allowed {limit:.3g}")
    return wrong
