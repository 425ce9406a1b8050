"""Experiments of earlier versions load as today's, with the values that they had."""

import contextlib
import json

import pytest
import torch
import yaml
from safetensors.torch import save_file

import crisscross
from crisscross import zoo
from crisscross.checkpoints import native
from crisscross.config import Experiment, ModelConfig, from_dict, load_experiment, to_dict
from crisscross.config.heads import AuxHeadConfig, CCNetConfig, CE2PConfig
from crisscross.config.migrate import migrate
from crisscross.errors import CrissCrossError


def test_a_tree_of_today_stays_as_it_is():
    for name in zoo.RECIPES:
        tree = to_dict(zoo.recipe(name))
        assert migrate(tree) == tree


def test_keys_of_a_section_get_their_new_names():
    earlier = {"loss": {"normaliser": "valid"}, "augment": {"max_share": 0.5, "flip": 0.25}}
    experiment = from_dict(Experiment, migrate(earlier))
    assert experiment.loss.normalizer == "valid"
    assert (experiment.augment.max_fraction, experiment.augment.flip) == (0.5, 0.25)
    assert earlier["loss"] == {"normaliser": "valid"}


def test_keys_that_no_longer_exist_are_left_out():
    earlier = {
        "preprocess": {"resize": "torch", "order": "bgr"},
        "loss": {"edge_weight": 0.5, "edge_reach": 3, "consistency": {"variance": 2.0, "dimensions": 8}},
        "train": {"max_skipped": 3, "batch": 2},
    }
    experiment = from_dict(Experiment, migrate(earlier))
    assert (experiment.preprocess.order, experiment.train.batch) == ("bgr", 2)
    assert experiment.loss.consistency.dimensions == 8
    assert earlier["loss"]["consistency"] == {"variance": 2.0, "dimensions": 8}


@pytest.mark.parametrize("name", ["boundary", "ohem_pixels"])
def test_terms_that_no_longer_exist_are_left_out(name):
    for rest, wanted in (([{"name": "dice"}], ("dice",)), ([], ("cross_entropy",))):
        earlier = {"loss": {"terms": [{"name": name, "weight": 0.5}, *rest]}}
        experiment = from_dict(Experiment, migrate(earlier))
        assert tuple(term.name for term in experiment.loss.terms) == wanted
        assert len(earlier["loss"]["terms"]) == 1 + len(rest)


def test_what_a_step_keeps_is_one_key():
    earlier = {
        "model": {"attention_memory": "lean"},
        "train": {"memory": "least", "batch_norm": "sync", "iterations": 7},
    }
    experiment = from_dict(Experiment, migrate(earlier))
    assert (experiment.train.memory, experiment.train.iterations) == ("lean", 7)
    assert experiment.train.batch_norm == "auto"


# What the first weights that shipped had in their file, but for its lists of classes and colors.
FIRST_SHIPPED = {
    "name": "camvid-light",
    "model": {
        "backbone": "tf_efficientnet_lite0",
        "output_stride": 16,
        "pretrained": True,
        "recurrence": 2,
        "baseline": False,
        "channels": 128,
        "reduction": 8,
        "dropout": 0.1,
        "aux_channels": 64,
        "align_corners": False,
        "frozen": ["conv_stem", "bn1", "blocks.0", "blocks.1"],
    },
    "data": {"name": "camvid", "train_split": "train", "val_split": "val", "test_split": "test"},
    "preprocess": {"mean": [127.0, 127.0, 127.0], "std": [128.0, 128.0, 128.0], "order": "rgb", "scale": [720, 540]},
    "augment": {"scale": [720, 540], "ratio": [0.5, 1.5], "crop": [320, 384], "max_share": 0.75},
    "loss": {"normaliser": "valid", "aux_weight": 0.4},
    "optim": {"name": "adamw", "lr": 0.001, "weight_decay": 0.01, "eta_min": 1e-06, "warmup": 50},
    "train": {"iterations": 900, "batch": 8, "validate_every": 300, "checkpoint_every": 50, "precision": "fp32"},
    "inference": {"mode": "whole"},
}


def test_the_first_shipped_weights_load_with_their_values():
    experiment = from_dict(Experiment, migrate(FIRST_SHIPPED))
    assert experiment.loss.normalizer == "valid"
    assert experiment.augment.max_fraction == 0.75
    # Later recipes have a pyramid; these weights have none.
    assert experiment.model.head == CCNetConfig(channels=128)
    assert experiment.model.aux_head == AuxHeadConfig(64)


# What `train` stored before heads had a section of their own, with every key of that time.
EARLIER_MODEL = {
    "backbone": "resnet101s",
    "output_stride": 8,
    "pretrained": True,
    "recurrence": 3,
    "baseline": False,
    "channels": 96,
    "reduction": 4,
    "dropout": 0.25,
    "aux_channels": 32,
    "align_corners": True,
    "frozen": ["conv1"],
    "attention_memory": "lean",
    "contract_dilation": False,
    "pool_shortcut": True,
    "ceil_pool": True,
    "activation": "leaky_relu",
    "norm": "absolute",
    "aux_bias": True,
    "fuse_bias": False,
    "head": "ccnet",
    "edge": True,
    "frames": 5,
    "label": "last",
}


def test_a_whole_earlier_model_section():
    model = from_dict(Experiment, migrate({"model": EARLIER_MODEL})).model
    assert model == ModelConfig(
        "resnet101s",
        pretrained=True,
        frozen=("conv1",),
        head=CCNetConfig(channels=96, recurrence=3, reduction=4, dropout=0.25),
        aux_head=AuxHeadConfig(32, 0.25),
        align_corners=True,
        variant="authors",
        frames=5,
        label="last",
    )
    # Once more changes nothing.
    assert migrate(migrate({"model": EARLIER_MODEL})) == migrate({"model": EARLIER_MODEL})


@pytest.mark.parametrize(
    ("keys", "variant"),
    [
        ({}, "mmseg"),
        ({"recurrence": 0, "baseline": True}, "mmseg"),
        (
            {
                "contract_dilation": False,
                "pool_shortcut": False,
                "activation": "leaky_attention",
                "aux_bias": True,
                "fuse_bias": True,
            },
            "paddleseg",
        ),
    ],
)
def test_the_keys_by_which_publishers_differed_are_one_variant(keys, variant):
    assert from_dict(Experiment, migrate({"model": keys})).model.variant == variant


def test_a_network_of_no_publisher_is_named():
    with pytest.raises(
        CrissCrossError, match=r"^model\.ceil_pool=True, model\.norm=absolute: together these are the ne"
    ):
        migrate({"model": {"ceil_pool": True, "norm": "absolute", "fuse_bias": False}})


def test_the_earlier_head_of_ce2p():
    earlier = {"head": "ce2p", "channels": 128, "aux_channels": 0, "output_stride": 16}
    model = from_dict(Experiment, migrate({"model": earlier})).model
    assert model.head == CE2PConfig(channels=128, activation="relu") and model.variant == "mmseg"
    model = from_dict(Experiment, migrate({"model": {**earlier, "activation": "leaky_relu"}})).model
    assert model.head == CE2PConfig(channels=128)
    with pytest.raises(CrissCrossError, match=r"^model\.edge=false: CE2P's head without its edge branch is no longer"):
        migrate({"model": {**earlier, "edge": False}})


def test_instances_keep_their_own_keys():
    tree = {"task": "instances", "model": {"channels": 128, "recurrence": 2, "reduction": 8}}
    assert migrate(tree) == tree


def test_what_is_no_tree_stays_for_the_reader_to_refuse():
    for odd in (None, 3, [1], {"model": 3}, {"loss": None}, {1: 2}, {"model": {"head": [1], "channels": 3}}):
        with contextlib.suppress(CrissCrossError):
            from_dict(Experiment, migrate(odd))


def test_a_run_folder_of_an_earlier_version_loads(tmp_path):
    header = {"format": native.FORMAT, "facts": "{}"}
    classes = {"classes": ["a", "b"], "palette": [[0, 0, 0], [1, 1, 1]]}
    sizes = {"channels": 16, "aux_channels": 8, "recurrence": 1, "activation": "relu", "head": "ccnet"}
    earlier = {"model": {"backbone": "test_resnet", **sizes}, "data": classes, "loss": {"normaliser": "valid"}}
    new = crisscross.build(from_dict(Experiment, migrate(earlier)))
    save_file(new.state_dict(), tmp_path / "best.safetensors", {**header, "experiment": json.dumps(earlier)})
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(earlier))
    loaded = crisscross.load(tmp_path)
    assert loaded.experiment == load_experiment(tmp_path / "experiment.yaml") == new.experiment
    assert torch.equal(loaded.head.classify.weight, new.head.classify.weight)
