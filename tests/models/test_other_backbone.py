"""Another backbone brings its mean and std, and no frozen modules of the former one."""

import pytest

import crisscross
from crisscross import tasks
from crisscross.cli import main
from crisscross.errors import CrissCrossError

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def test_its_own_values_are_said():
    recipe = tasks.recipe("ccnet-light", ["model.backbone=resnet18"])
    experiment = recipe.experiment
    assert (experiment.preprocess.mean, experiment.preprocess.std) == IMAGENET and experiment.model.frozen == ()
    assert recipe.lines == (
        "model.backbone=resnet18: preprocess.mean=[123.675, 116.28, 103.53] and "
        "preprocess.std=[58.395, 57.12, 57.375] are its own; "
        "model.frozen=[conv_stem, bn1, blocks.0, blocks.1] names modules of tf_efficientnet_lite0 and is dropped",
    )


def test_what_the_user_sets_stays():
    words = ["model.backbone=resnet18", "preprocess.mean=[1, 2, 3]", "model.frozen=[conv1]"]
    recipe = tasks.recipe("ccnet-light", words)
    assert recipe.experiment.preprocess.mean == (1, 2, 3) and recipe.experiment.preprocess.std == (128.0,) * 3
    assert recipe.experiment.model.frozen == ("conv1",) and recipe.lines == ()
    lacking = tasks.recipe("ccnet-light", ["model.backbone=resnet18", "model.frozen=[blocks.0]"])
    assert lacking.experiment.model.frozen == ("blocks.0",)
    whole = tasks.recipe("ccnet-light", ["model={backbone: resnet18, frozen: [conv1]}"])
    assert whole.experiment.preprocess.mean == IMAGENET[0] and whole.experiment.model.frozen == ("conv1",)


def test_frozen_modules_that_both_have_stay():
    recipe = tasks.recipe("ccnet-light", ["model.backbone=tf_efficientnet_lite1"])
    assert recipe.experiment.model.frozen == ("conv_stem", "bn1", "blocks.0", "blocks.1")
    assert recipe.experiment.preprocess.mean == (127.5,) * 3


@pytest.mark.parametrize("words", [[], ["model.backbone=tf_efficientnet_lite0"], ["train.batch=2"]])
def test_the_same_backbone_keeps_the_recipes_values(words):
    recipe = tasks.recipe("ccnet-light", words)
    assert recipe.experiment.preprocess.mean == (127.0,) * 3 and not recipe.lines
    assert recipe.experiment.model.frozen


def test_a_backbone_that_does_not_exist_is_refused_where_it_is_built():
    assert tasks.recipe("ccnet-light", ["model.backbone=resnet18x"]).lines == ()
    assert tasks.recipe("ccnet-light", ["model.backbone=mine:Net"]).lines == ()


@pytest.mark.parametrize(
    ("word", "key"),
    [("preprocess.mean=[0.485, 0.456, 0.406]", "mean"), ("preprocess.std=[0.229, 0.224, 0.225]", "std")],
)
def test_the_scale_of_torchvision_is_refused_with_the_cure(word, key, capsys):
    with pytest.raises(CrissCrossError, match=rf"preprocess\.{key} must be on the 0\.\.255 scale; from .* by 255"):
        tasks.recipe("ccnet-r50", [word])
    assert main(["train", "ccnet-r50", "--data", "x", "--out", "y", "--set", word]) == 2
    assert "multiply mean and std by 255, got [0." in capsys.readouterr().err


def test_a_file_and_build_bring_them_too(tmp_path):
    # timm states a mean and std of 0.5 for this backbone: https://huggingface.co/timm, `default_cfg` of the model.
    half = (127.5,) * 3
    file = tmp_path / "own.yaml"
    file.write_text("model: {backbone: tf_efficientnet_lite0}\n")
    recipe = tasks.recipe(file)
    assert recipe.experiment.preprocess.mean == half and "are its own" in recipe.lines[0]
    assert crisscross.build(recipe.experiment, classes=["a"]).experiment.preprocess.mean == half
    built = crisscross.build("ccnet-r50", classes=["a"], pretrained=False, backbone="tf_efficientnet_lite0")
    assert built.experiment.preprocess.mean == half and built.experiment.preprocess.std == half
    assert (
        crisscross.build("ccnet-light", classes=["a"], pretrained=False, backbone="resnet18").experiment.model.frozen
        == ()
    )
    kept = crisscross.build(
        "ccnet-r50", classes=["a"], pretrained=False, backbone="tf_efficientnet_lite0", std=[1, 2, 3]
    )
    assert (kept.experiment.preprocess.mean, kept.experiment.preprocess.std) == (IMAGENET[0], (1, 2, 3))


def test_a_file_that_says_its_mean_keeps_it(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("model: {backbone: tf_efficientnet_lite0}\npreprocess: {mean: [1, 2, 3]}\n")
    recipe = tasks.recipe(file)
    assert recipe.experiment.preprocess.mean == (1, 2, 3) and recipe.lines == ()
