"""Recipes beyond the published family: the strongest public CCNet, and a backbone of today.

`cityscapes-r101d-ohem` is PaddleSeg's: network, OHEM 0.7 / 10000, 0.4 of the auxiliary loss, 769 x 769, 60000
iterations, SGD 0.01 down to 1e-4 and their scores are read in its configuration and page; eight images a step,
weight decay 4e-5, ratios and distortion are from memory. Its backbone's weights are distilled there; here they are
timm's, with timm's mean and std. Hard pixels are counted in images shrunk by 8, as the authors do; theirs in whole
ones.

`ccnet-convnext-tiny`: the optimizer is the one that ConvNeXt's own segmentation networks use, from memory.
"""

from crisscross.zoo.published_networks import Row

CITYSCAPES_R101D: Row = {
    "model": {
        "backbone": "resnet101d",
        "pretrained": True,
        "contract_dilation": False,
        "pool_shortcut": False,
        "activation": "leaky_attention",
        "aux_bias": True,
        "fuse_bias": True,
    },
    "data": {"name": "cityscapes", "test_split": "val"},
    "preprocess": {"scale": [2048, 1024]},
    "augment": {"scale": [2048, 1024], "crop": [769, 769], "max_fraction": 1.0},
    "loss": {"normalizer": "valid", "terms": [{"name": "ohem"}], "ohem": {"keep": 10_000}},
    "optim": {"weight_decay": 4e-5},
    "train": {"iterations": 60_000, "batch": 8, "validate_every": 6000, "checkpoint_every": 2000},
}

CCNET_CONVNEXT: Row = {
    "model": {"backbone": "convnext_tiny", "pretrained": True, "aux_channels": 256},
    "loss": {"normalizer": "valid"},
    "optim": {
        "name": "adamw",
        "lr": 1e-4,
        "weight_decay": 0.05,
        "decay_norms": False,
        "layer_decay": 0.9,
        "power": 1.0,
        "eta_min": 0.0,
        "warmup": 1500,
    },
}

BEYOND: dict[str, Row] = {"cityscapes-r101d-ohem": CITYSCAPES_R101D, "ccnet-convnext-tiny": CCNET_CONVNEXT}
