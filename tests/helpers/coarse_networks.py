"""Small segmenters and images for the tests of inference, and the logits that are expected of them."""

import numpy as np
import torch
import torch.nn.functional as F
from literal_inference import one_pass
from networks import narrow

from crisscross.config import DataConfig, Experiment, InferenceConfig, ModelConfig, PreprocessConfig
from crisscross.inference.passes import joined, views
from crisscross.models import Logits, Segmenter

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)

CLASSES = 5


def small_segmenter(align_corners=False, **preprocess):
    torch.manual_seed(0)
    model = ModelConfig("test_resnet", 8, **narrow(16, 8), align_corners=align_corners)
    data = DataConfig(classes=("floor", "wall", "door"))
    segmenter = Segmenter(Experiment(model=model, data=data, preprocess=PreprocessConfig(**preprocess))).eval()
    torch.nn.init.constant_(segmenter.head.attend.attention.gamma, 0.7)
    # A fresh classifier is close to 0: make its logits, and so the labels, differ.
    torch.nn.init.normal_(segmenter.head.classify.weight)
    return segmenter


def coarse_of(x):
    """Logits at stride 8 with a view of 9 x 9 pixels: ceil(size / 8) positions, windows differ at their rims."""
    weight = torch.randn(CLASSES, 3, 9, 9, generator=torch.Generator().manual_seed(3)) / 4
    return F.conv2d(x, weight, stride=8, padding=4)


def with_coarse(function, align_corners=False, scale=None, **inference_config):
    """A Segmenter whose network is `function`."""
    names = tuple("abcdefghijklmnop"[:CLASSES])
    data = DataConfig(classes=names, flip_pairs=((0, 3), (1, 2)))
    model = ModelConfig("test_resnet", 8, **narrow(8, 0), align_corners=align_corners)
    preprocess = PreprocessConfig(mean=MEAN, std=STD, scale=scale)
    segmenter = Segmenter(Experiment("x", model, data, preprocess, inference=InferenceConfig(**inference_config)))
    segmenter.coarse = lambda x: Logits(function(x), None)
    return segmenter.eval()


def image_of(height, width, seed=0):
    """uint8 [H, W, 3], blocks of color under noise."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3)).repeat(16, 0).repeat(16, 1)
    return (blocks[:height, :width] * 0.8 + rng.integers(0, 50, (height, width, 3))).astype(np.uint8)


def expected_logits(segmenter, image, function=coarse_of):
    experiment = segmenter.experiment
    scale, align_corners = experiment.preprocess.scale, experiment.model.align_corners
    return one_pass(function, image, scale, experiment.inference, MEAN, STD, align_corners)


def run_pass(coarse_of, x, size, config, align_corners, mirrored=False):
    """One pass over a normalized image x to the size (height, width) of the image before its resize."""
    (view,) = views(tuple(x.shape[-2:]), config)
    view = view._replace(mirrored=mirrored)
    return joined(view, [coarse_of(part)[0] for part in view.windows(x, (32, 32))], size, align_corners)
