"""Forward passes of published CCNets, written out for the tests: every tensor by its publisher's key.

Pieces that all share; what differs stands in the tests of each publisher.
"""

import zlib

import numpy as np
import torch
from torch.nn import functional


def difference(found, expected):
    """Relative error of a whole array."""
    found, expected = (np.asarray(x, np.float64) for x in (found, expected))
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def norm_keys(prefix, channels, counter=True, statistics=("running_mean", "running_var")):
    for part in ("weight", "bias", *statistics):
        yield f"{prefix}.{part}", (channels,)
    if counter:
        yield f"{prefix}.num_batches_tracked", ()


def bottleneck_keys(blocks, incoming, layer_name, parts, shortcut, norms):
    """Names and shapes of the residual blocks: `parts` are (convolution, norm) three times, `shortcut` once."""
    for layer, count in enumerate(blocks, 1):
        width = 32 * 2**layer
        for block in range(count):
            prefix = layer_name(layer, block)
            shapes = ((width, incoming, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1))
            for (conv_name, norm_name), shape in zip(parts, shapes, strict=True):
                yield f"{prefix}.{conv_name}.weight", shape
                yield from norms(f"{prefix}.{norm_name}", shape[0])
            if block == 0:
                yield f"{prefix}.{shortcut[0]}.weight", (4 * width, incoming, 1, 1)
                yield from norms(f"{prefix}.{shortcut[1]}", 4 * width)
            incoming = 4 * width


def norm(tensors, key, x):
    mean, var, weight, bias = (tensors[f"{key}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return functional.batch_norm(x, mean, var, weight, bias, False, 0.0, 1e-5)


def conv(tensors, key, x, stride=1, dilation=1):
    weight = tensors[f"{key}.weight"]
    padding = dilation * (weight.shape[-1] // 2)
    return functional.conv2d(x, weight, tensors.get(f"{key}.bias"), stride, padding, dilation)


def attention(tensors, projections, gamma, x):
    """One position at a time over its row and the rest of its column."""
    query, keys, values = (conv(tensors, name, x) for name in projections)
    height, width = x.shape[2:]
    out = torch.zeros_like(x)
    for h, w in np.ndindex(height, width):
        places = [(i, w) for i in range(height) if i != h] + [(h, j) for j in range(width)]
        rows, columns = map(list, zip(*places, strict=True))
        logits = (query[:, :, h, w, None] * keys[:, :, rows, columns]).sum(1)
        out[:, :, h, w] = (values[:, :, rows, columns] * logits.softmax(1)[:, None]).sum(2)
    return tensors[gamma] * out + x


def value(key, shape):
    """A tensor by formula of key and shape."""
    if key.endswith("num_batches_tracked"):
        return torch.tensor(1)
    if key.endswith(("gamma.scale", "gamma")):
        return torch.full(shape, 0.8)
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    draw = torch.randn(shape, generator=generator)
    if len(shape) == 4:
        return draw * (2 / np.prod(shape[1:])) ** 0.5
    if key.endswith(("running_var", "_variance")):
        return 1 + 0.2 * draw.abs()
    if key.endswith(".weight"):
        # The last of a residual branch is damped, so that sixteen of them do not blow up.
        return (0.35 if ".bn3." in key or ".conv2._batch_norm." in key else 1.0) * (1 + 0.2 * draw)
    return 0.1 * draw


def filled(shapes):
    """A state dict of these names and shapes."""
    return {key: value(key, shape) for key, shape in shapes.items()}
