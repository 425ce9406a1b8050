"""Human parsing: the recipes for LIP, and what the paper reports on it.

Known from public sources: 473 x 473 input, 20 classes, rotation of up to 30 degrees with probability 0.6, ratios 0.75
to 1.25 (configurations for LIP that MMSegmentation once had), criss-cross attention in the place of CE2P's context
module and the scores below (reviews of the paper). From memory of CE2P's code: output stride 16, 150 epochs, SGD 7e-3
falling to 0, weight decay 5e-4, corners aligned, leaky ReLU in the head, equal weights of its three losses, no color
distortion, the image fitted into a square with its shape kept, in training and in use. The batch of 16 is ours.
"""

from copy import deepcopy

from crisscross.zoo.published_networks import Row

TRAIN_IMAGES, EPOCHS, BATCH = 30_462, 150, 16
# Rounded up to hundreds.
ITERATIONS = -(-TRAIN_IMAGES * EPOCHS // BATCH // 100) * 100
EPOCH = TRAIN_IMAGES // BATCH


def _row(depth: int, **model: object) -> Row:
    square = [473, 473]
    return {
        "model": {"backbone": f"resnet{depth}c", "pretrained": True, "align_corners": True, **model},
        "data": {"name": "lip"},
        "preprocess": {"scale": square},
        # A person fills a small part of the image: no crop is too much of one class.
        "augment": {
            "scale": square,
            "ratio": [0.75, 1.25],
            "crop": square,
            "max_fraction": 1.0,
            "distortion": False,
            "rotation": 30.0,
            "rotation_chance": 0.6,
        },
        # What lacks of the square is ignored and would otherwise thin the loss of narrow images.
        "loss": {"normalizer": "valid"},
        "optim": {"lr": 7e-3, "eta_min": 0.0},
        "train": {"iterations": ITERATIONS, "batch": BATCH, "validate_every": 10 * EPOCH, "checkpoint_every": EPOCH},
        # As in training: the network has hardly seen narrow images without the rest of the square.
        "inference": {"ratios": [0.75, 1.0, 1.25], "pad_to": square},
    }


def _ce2p(depth: int) -> Row:
    row = _row(depth, head={"name": "ce2p"}, output_stride=16)
    row["loss"] |= {"aux_weight": 1.0}
    return row


def _light() -> Row:
    """Five epochs on small images with a small backbone, every stage of which learns."""
    row = deepcopy(_ce2p(50))
    row["model"] |= {
        "backbone": "tf_efficientnet_lite0",
        "head": {"name": "ce2p", "channels": 128, "activation": "relu"},
    }
    row["preprocess"] = {"mean": [127.0, 127.0, 127.0], "std": [128.0, 128.0, 128.0], "scale": [320, 320]}
    row["augment"] |= {"scale": [320, 320], "crop": [320, 320]}
    row["inference"] |= {"pad_to": [320, 320]}
    row["optim"] = {"name": "adamw", "lr": 1e-3, "weight_decay": 1e-2, "eta_min": 1e-6, "warmup": 200}
    row["train"] = {"iterations": 19_000, "batch": 8, "validate_every": 3_800, "checkpoint_every": 500}
    return row


LIP: dict[str, Row] = {
    "lip-ccnet-r50": _row(50),
    "lip-ccnet-r101": _row(101),
    "lip-ce2p-r50": _ce2p(50),
    "lip-ce2p-r101": _ce2p(101),
    "lip-light": _light(),
}
