"""Experiments of earlier versions load as today's, with the values that they had."""

from crisscross import zoo
from crisscross.checkpoints import native
from crisscross.config import Experiment, from_dict, to_dict
from crisscross.config.migrate import migrate


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


def test_what_a_step_keeps_is_one_key():
    earlier = {"model": {"attention_memory": "lean"}, "train": {"memory": "least", "iterations": 7}}
    experiment = from_dict(Experiment, migrate(earlier))
    assert (experiment.train.memory, experiment.train.iterations) == ("lean", 7)


def test_the_shipped_weights_of_an_earlier_version_load_with_their_values():
    experiment, _ = native.read_header(zoo.shipped_weights("camvid-light"))
    assert experiment.loss.normalizer == "valid"
    assert experiment.augment.max_fraction == 0.75
