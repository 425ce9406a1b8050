"""Our own recipes, and the lookup of all. Each row holds what differs from the defaults of `crisscross.config`."""

from copy import deepcopy
from pathlib import Path

from crisscross.config import Experiment, from_dict, hint
from crisscross.errors import CrissCrossError
from crisscross.zoo.instances import INSTANCE_RECIPES
from crisscross.zoo.lip import LIP
from crisscross.zoo.published_networks import ALIASES, PUBLISHED, Published, Row, published_recipe

# The backbone's own weights were trained with these.
LITE_PREPROCESS = {"mean": [127.0, 127.0, 127.0], "std": [128.0, 128.0, 128.0]}

LITE_MODEL: Row = {
    "backbone": "tf_efficientnet_lite0",
    "output_stride": 16,
    "pretrained": True,
    "frozen": ["conv_stem", "bn1", "blocks.0", "blocks.1"],
    "head": {"channels": 128, "pyramid": 64},
    "aux_head": {"channels": 64},
}

# For anybody's images on a modest machine.
CCNET_LIGHT: Row = {
    "model": LITE_MODEL,
    "preprocess": LITE_PREPROCESS,
    "augment": {"crop": [384, 384]},
    "loss": {"normalizer": "valid"},
    "optim": {"name": "adamw", "lr": 1e-3, "weight_decay": 1e-2, "eta_min": 1e-6, "warmup": 50},
    "train": {"iterations": 2000, "batch": 8, "validate_every": 500, "checkpoint_every": 100},
}

# Square root of (median class share / class share) in the train split, scaled to a mean of 1 over its pixels; the 11
# classes of crisscross.data.sets.camvid in their order.
CAMVID_WEIGHTS = [0.9, 0.75, 3.6, 0.65, 1.7, 1.15, 3.3, 3.4, 1.5, 4.5, 6.7]

# The images are enlarged half again, so that stride 16 is a finer grid on the small originals; the early stages
# keep their ImageNet weights, which saves a third of each step. The training is short, so the gate learns faster.
CAMVID_LIGHT: Row = {
    "model": LITE_MODEL,
    "data": {"name": "camvid"},
    "preprocess": {**LITE_PREPROCESS, "scale": [720, 540]},
    "augment": {"scale": [720, 540], "ratio": [0.5, 1.5], "crop": [320, 384]},
    "loss": {"normalizer": "valid", "class_weights": CAMVID_WEIGHTS},
    "optim": {
        "name": "adamw",
        "lr": 1e-3,
        "weight_decay": 1e-2,
        "eta_min": 1e-6,
        "warmup": 50,
        "gate_factor": 10.0,
    },
    "train": {"iterations": 1200, "batch": 8, "validate_every": 400, "checkpoint_every": 50},
}

# The CCNet of the published tables at output stride 8 on CamVid's images.
CAMVID_R50: Row = {
    "model": {"backbone": "resnet50c", "pretrained": True},
    "data": {"name": "camvid"},
    "augment": {"crop": [360, 480]},
    "train": {"iterations": 10000, "validate_every": 500},
}

# The paper's CCNet3D on CamVid: clips of five frames, three passes reach every position of them. `--set model.frames=1`
# and `=3` are its other lengths.
CCNET3D_R50_CAMVID: Row = {
    **CAMVID_R50,
    "model": {**CAMVID_R50["model"], "head": {"recurrence": 3}, "frames": 5},
}

# camvid-light over clips of three frames, at the images' own size.
CCNET3D_LIGHT: Row = {
    "model": {**LITE_MODEL, "head": {**LITE_MODEL["head"], "recurrence": 3}, "frames": 3},
    "data": {"name": "camvid"},
    "preprocess": LITE_PREPROCESS,
    "augment": {"ratio": [0.5, 1.5], "crop": [256, 256]},
    "loss": {"normalizer": "valid", "class_weights": CAMVID_WEIGHTS},
    "optim": {"name": "adamw", "lr": 1e-3, "weight_decay": 1e-2, "eta_min": 1e-6, "warmup": 50},
    "train": {"iterations": 900, "batch": 4, "validate_every": 300, "checkpoint_every": 50},
}

# For the scenes of `crisscross demo`: they are seen whole, because the ship must be in view, and their colors are the
# cue. The training is short, so the gate learns faster.
DEMO: Row = {
    "model": {
        "backbone": "small",
        "head": {"channels": 64, "reduction": 2},
        "aux_head": {"channels": 0},
    },
    "data": {"name": "folder"},
    "augment": {"ratio": [1.0, 1.0], "crop": [144, 256], "distortion": False},
    "loss": {"normalizer": "valid"},
    "optim": {"name": "adamw", "lr": 0.01, "weight_decay": 1e-2, "warmup": 20, "eta_min": 1e-5, "gate_factor": 5.0},
    "train": {"iterations": 200, "batch": 8, "validate_every": 100, "checkpoint_every": 50},
}


# The strongest public CCNet, PaddleSeg's: network, OHEM 0.7 / 10000, 0.4 of the auxiliary loss, 769 x 769, 60000
# iterations, SGD 0.01 down to 1e-4 and their scores are read in its configuration and page; eight images a step,
# weight decay 4e-5, ratios and distortion are from memory. Its backbone's weights are distilled there; here they are
# timm's, with timm's mean and std. Hard pixels are counted in images shrunk by 8, as the authors do; theirs in whole
# ones.
CITYSCAPES_R101D: Row = {
    "model": {"backbone": "resnet101d", "pretrained": True, "variant": "paddleseg"},
    "data": {"name": "cityscapes", "test_split": "val"},
    "preprocess": {"scale": [2048, 1024]},
    "augment": {"scale": [2048, 1024], "crop": [769, 769], "max_fraction": 1.0},
    "loss": {"normalizer": "valid", "terms": [{"name": "ohem"}], "ohem": {"keep": 10_000}},
    "optim": {"weight_decay": 4e-5},
    "train": {"iterations": 60_000, "batch": 8, "validate_every": 6000, "checkpoint_every": 2000},
}

# The optimizer is the one that ConvNeXt's own segmentation networks use, from memory.
CCNET_CONVNEXT: Row = {
    "model": {"backbone": "convnext_tiny", "pretrained": True},
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


def _without_attention(row: Row) -> Row:
    """The same recipe with R = 0."""
    plain = deepcopy(row)
    plain["model"]["head"]["recurrence"] = 0
    return plain


OURS: dict[str, Row] = {
    "ccnet-r50": {"model": {"backbone": "resnet50c", "pretrained": True}},
    "ccnet-light": CCNET_LIGHT,
    "ccnet-r101": {"model": {"backbone": "resnet101c", "pretrained": True}},
    "camvid-r50": CAMVID_R50,
    "camvid-light": CAMVID_LIGHT,
    "camvid-light-baseline": _without_attention(CAMVID_LIGHT),
    "ccnet3d-r50-camvid": CCNET3D_R50_CAMVID,
    "ccnet3d-light": CCNET3D_LIGHT,
    "demo": DEMO,
    "cityscapes-r101d-ohem": CITYSCAPES_R101D,
    "ccnet-convnext-tiny": CCNET_CONVNEXT,
}

RECIPES: dict[str, Row] = OURS | LIP | {name: published_recipe(entry) for name, entry in PUBLISHED.items()}


def row(name: str) -> Row:
    """What a recipe of any task changes of the defaults, by its name or the older name of a published checkpoint.

    Raises:
        CrissCrossError: there is no such recipe; near misses are named.
    """
    known, every = ALIASES.get(name, name), RECIPES | INSTANCE_RECIPES
    if known not in every:
        near = hint(name, [*every, *ALIASES])
        raise CrissCrossError(
            f"no recipe {name!r}; {near if near.startswith('did') else '`crisscross zoo` lists all of them'}"
        )
    return {"name": known, **every[known]}


def recipe(name: str) -> Experiment:
    """The experiment of a recipe for semantic segmentation; `crisscross.tasks.recipe` takes the names of all tasks.

    Raises:
        CrissCrossError: there is no such recipe, or it is one of another task.
    """
    return from_dict(Experiment, row(name))


def published(name: str) -> Published | None:
    """The published row of that name or older name, or None."""
    return PUBLISHED.get(ALIASES.get(name, name))


def shipped_weights(name: str) -> Path | None:
    """The weights file that this package carries for a recipe, or None."""
    path = Path(__file__).parent / "weights" / f"{name}.safetensors"
    return path if path.is_file() else None
