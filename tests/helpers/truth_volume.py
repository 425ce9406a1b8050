"""The truth about criss-cross attention over clips, for every test of the 3-D operator; the comparison is truth.py's.

The loop is plain Python over positions, with gradients derived by hand; it shares nothing with the package.
"""

import numpy as np
import torch
import truth

from crisscross.ops import criss_cross_attention_3d_reference


def cross(place, size):
    """The T + H + W - 2 positions that differ from a place in at most one coordinate."""
    found = [place]
    for axis in range(3):
        others = (i for i in range(size[axis]) if i != place[axis])
        found += [(*place[:axis], i, *place[axis + 1 :]) for i in others]
    return found


def loop(q, k, v, g):
    """Output and gradients by definition, one position at a time: float64 tensors."""
    q, k, v, g = (x.detach().double().numpy() for x in (q, k, v, g))
    out, dq, dk, dv = (np.zeros(x.shape) for x in (v, q, k, v))
    for b, t, h, w in np.ndindex(q.shape[0], *q.shape[2:]):
        here = (b, slice(None), t, h, w)
        places = [(b, slice(None), *place) for place in cross((t, h, w), q.shape[2:])]
        logits = np.array([q[here] @ k[place] for place in places])
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        gain = np.array([g[here] @ v[place] for place in places])
        slope = weights * (gain - weights @ gain)
        for place, weight, rise in zip(places, weights, slope, strict=True):
            out[here] += weight * v[place]
            dv[place] += weight * g[here]
            dq[here] += rise * k[place]
            dk[place] += rise * q[here]
    return [torch.from_numpy(x) for x in (out, dq, dk, dv)]


def draw_clip(shape, dtype=torch.float64, seed=0):
    """q, k, v and an incoming gradient [B, channels, T, H, W]."""
    batch, inner, outer, *size = shape
    stacked = truth.draw((batch, inner, outer, size[0] * size[1], size[2]), dtype, seed)
    return [x.unflatten(2, size[:2]) for x in stacked]


def disagreements(operator, q, k, v, g):
    """As in truth.py, with the loop and the definition over clips."""
    return truth.disagreements(operator, q, k, v, g, loop=loop, definition=criss_cross_attention_3d_reference)
