"""Whole, sliding and multi-scale labeling written out literally: full tensors, one loop for each published rule."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F

RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def resize(x, size, align_corners):
    return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)


def at_input_size(coarse_of, x, align_corners):
    """Logits at the size of x; what is smaller than 32 is filled with 0 and cut back."""
    height, width = x.shape[-2:]
    filled = torch.zeros(1, 3, max(height, 32), max(width, 32))
    filled[..., :height, :width] = x
    return resize(coarse_of(filled), filled.shape[-2:], align_corners)[..., :height, :width]


def slide(coarse_of, x, window, stride, align_corners):
    """Mean over windows of their logits, [1, K, H, W]."""
    height, width = x.shape[-2:]
    total, visits = None, torch.zeros(height, width)
    y = 0
    while True:
        bottom = min(y + window[0], height)
        top = max(bottom - window[0], 0)
        left_edge = 0
        while True:
            right = min(left_edge + window[1], width)
            left = max(right - window[1], 0)
            logits = at_input_size(coarse_of, x[..., top:bottom, left:right], align_corners)
            if total is None:
                total = torch.zeros(1, logits.shape[1], height, width)
            total[..., top:bottom, left:right] += logits
            visits[top:bottom, left:right] += 1
            if right == width:
                break
            left_edge += stride[1]
        if bottom == height:
            break
        y += stride[0]
    return total / visits


def fitted(height, width, scale):
    """(height, width) that fits (width, height) `scale`, keeping the shape."""
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def one_pass(coarse_of, image, scale, config, mean, std, align_corners, mirror=False, swap=()):
    """Logits [K, H, W] at the image's size; image uint8 [H, W, 3]."""
    height, width = image.shape[:2]
    size = fitted(height, width, scale or (width, height))
    shown = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    x = torch.from_numpy(shown).permute(2, 0, 1)[None].float()
    x = (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    if mirror:
        x = x[..., torch.arange(x.shape[-1] - 1, -1, -1)]
    if config.mode == "slide":
        logits = slide(coarse_of, x, config.window, config.stride, align_corners)
    else:
        logits = at_input_size(coarse_of, x, align_corners)
    logits = resize(logits, (height, width), align_corners)
    if mirror:
        logits = logits[..., torch.arange(width - 1, -1, -1)]
        swapped = logits.clone()
        for one, other in swap:
            swapped[:, one], swapped[:, other] = logits[:, other], logits[:, one]
        logits = swapped
    return logits[0]


def multi_scale_flip(coarse_of, image, scale, config, mean, std, align_corners, swap=()):
    """Mean of the probabilities [K, H, W] over ratios and mirror images; the ratios are those of the test scale."""
    base = scale or (image.shape[1], image.shape[0])
    found = []
    for ratio in config.ratios:
        scaled = max(int(base[0] * ratio), 1), max(int(base[1] * ratio), 1)
        for mirror in (False, True) if config.flip else (False,):
            logits = one_pass(coarse_of, image, scaled, config, mean, std, align_corners, mirror, swap)
            found.append(torch.softmax(logits.double(), 0))
    return np.mean([one.numpy() for one in found], axis=0)
