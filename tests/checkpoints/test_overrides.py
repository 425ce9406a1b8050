"""Values that `build`, `load` and `train` take by name: classes, and what goes by their numbers."""

import pytest

import crisscross
from crisscross import tasks
from crisscross.errors import CrissCrossError


@pytest.mark.parametrize("value", [8, None, True, 0.5, "road"])
@pytest.mark.parametrize(
    "call",
    [
        lambda value: crisscross.build("ccnet-r50", classes=value),
        lambda value: crisscross.build("ccnet-r50", data={"classes": value}),
        lambda value: crisscross.load("camvid-light", classes=value),
        lambda value: crisscross.train("camvid-light", "data", "run", classes=value),
        lambda value: tasks.recipe("camvid-light", [f"data.classes={'null' if value is None else value}"]),
    ],
)
def test_classes_are_names(call, value):
    with pytest.raises(CrissCrossError) as caught:
        call(value)
    assert str(caught.value) == f"data.classes must be a list of names, got {value!r}"


def test_a_recipe_is_a_name_or_an_experiment():
    with pytest.raises(CrissCrossError, match=r"^a recipe must be a name from the zoo or an experiment, got 8$"):
        crisscross.build(8)


@pytest.mark.parametrize("words", [{"classes": ["background", "crop"]}, {"data": {"classes": ["background", "crop"]}}])
def test_another_number_of_classes_brings_no_colors_and_pairs_of_the_old_ones(words):
    lip = crisscross.build("lip-light", pretrained=False)
    assert lip.experiment.data.flip_pairs and lip.palette[1] == (128, 0, 0)
    network = crisscross.build("lip-light", pretrained=False, **words)
    assert network.classes == ("background", "crop") and not network.experiment.data.flip_pairs
    # By the rule of Pascal VOC, background black.
    assert network.palette == ((0, 0, 0), (128, 0, 0))


def test_as_many_other_names_keep_the_colors_alone():
    lip = crisscross.build("lip-light", pretrained=False)
    network = crisscross.build("lip-light", pretrained=False, classes=[f"class {k}" for k in range(20)])
    assert network.palette == lip.palette and not network.experiment.data.flip_pairs
    same = crisscross.build("lip-light", pretrained=False, classes=list(lip.classes))
    assert same.experiment.data.flip_pairs == lip.experiment.data.flip_pairs


def test_colors_and_pairs_that_are_named_beside_classes_are_kept():
    colors, names = [[1, 2, 3], [4, 5, 6]], ["left", "right"]
    network = crisscross.build("demo", classes=names, palette=colors, flip_pairs=[[0, 1]])
    assert network.palette == ((1, 2, 3), (4, 5, 6)) and network.experiment.data.flip_pairs == ((0, 1),)


def test_a_recipe_for_instances_takes_classes_too():
    changes = {"classes": ["cat"], "categories": [17]}
    assert tasks.recipe("maskrcnn_r50_fpn_coco", changes).experiment.data.classes == ("cat",)
