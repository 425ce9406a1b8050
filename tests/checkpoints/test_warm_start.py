"""Trained weights as a start for other classes: what is taken over, what is new, and what is said."""

from dataclasses import replace

import pytest
import torch
from forward_passes import filled
from networks import narrow
from published_layouts import R50, authors_keys, mmseg_keys

import crisscross
from crisscross.checkpoints.publishers.table import PUBLISHERS
from crisscross.checkpoints.warm_start import same_classes, start_from, with_colors_of
from crisscross.config import DataConfig, Experiment, ModelConfig, PreprocessConfig
from crisscross.config.heads import CE2PConfig
from crisscross.errors import CrissCrossError
from crisscross.models import create_segmenter

pytestmark = pytest.mark.usefixtures("one_thread")

THEIRS = ("road", "sky", "Traffic Light", "tree")
OURS = ("traffic_light", "cat", "road")
KEPT = {0: 2, 2: 0}


def network(classes, seed=0, **model):
    torch.manual_seed(seed)
    model = ModelConfig(**{"backbone": "test_resnet", **narrow(16, 8), **model})
    return create_segmenter(Experiment(model=model, data=DataConfig(classes=classes)))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "theirs.safetensors"
    crisscross.save(network(THEIRS), path)
    return path


@pytest.mark.parametrize(
    ("theirs", "ours", "rows"),
    [
        (THEIRS, OURS, KEPT),
        (("a", "b"), ("b", "a"), {0: 1, 1: 0}),
        # Two of theirs could be meant.
        (("a b", "a_b"), ("A-B", "c"), {}),
        # Numbers are no names, but in equal lists.
        (("class 0", "class 1"), ("class 1", "x"), {}),
        (("class 0", "class 1"), ("class 0", "class 1"), {0: 0, 1: 1}),
    ],
)
def test_classes_of_one_name(theirs, ours, rows):
    assert same_classes(theirs, ours) == rows


def test_all_but_the_classifiers_is_taken_over(file):
    ours, theirs = network(OURS, seed=1), crisscross.load(file).state_dict()
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    started = start_from(ours, file)
    assert started.facts == {"init": str(file)}
    assert started.lines == [
        f"--init {file}: all is taken over; head.classify and aux_head.classify keep their rows for traffic_light, "
        "road and start anew for cat"
    ]
    for key, value in ours.state_dict().items():
        if key.rpartition(".")[0] not in ours.classifiers:
            assert torch.equal(value, theirs[key])
            continue
        for place in range(len(OURS)):
            expected = theirs[key][KEPT[place]] if place in KEPT else before[key][place]
            assert torch.equal(value[place], expected)
            assert place in KEPT or "bias" in key or not torch.equal(value[place], theirs[key][place])


@pytest.mark.parametrize(
    ("classes", "line"),
    [
        (THEIRS, "all weights are taken over, of the same 4 classes"),
        (tuple(reversed(THEIRS)), "aux_head.classify keep their rows for tree, Traffic Light, sky, road"),
        (("cat", "dog"), "all is taken over but head.classify and aux_head.classify, new for cat, dog"),
        (tuple("abcdefgh"), "new for a, b, c, d, e, f and 2 more"),
    ],
)
def test_the_line_says_what_is_new(file, classes, line):
    [said] = start_from(network(classes), file).lines
    assert said.endswith(line)


def test_the_same_classes_in_another_order_change_places(file):
    ours, theirs = network(tuple(reversed(THEIRS)), seed=1), crisscross.load(file)
    start_from(ours, file)
    assert torch.equal(ours.head.classify.weight, theirs.head.classify.weight.flip(0))


def test_another_auxiliary_head_starts_anew(file):
    ours = network(OURS, seed=1, **narrow(16, 4))
    before = {key: value.clone() for key, value in ours.aux_head.state_dict().items()}
    [said] = start_from(ours, file).lines
    assert said.endswith("start anew for cat; the auxiliary head starts anew")
    assert all(torch.equal(value, before[key]) for key, value in ours.aux_head.state_dict().items())
    none = network(OURS, **narrow(16, 0))
    assert "the auxiliary head" in start_from(none, file).lines[0] and none.aux_head is None


def test_both_classifiers_of_parsing_and_its_edges(tmp_path):
    head = CE2PConfig(channels=16)
    theirs, ours = (network(names, seed, head=head) for seed, names in enumerate((THEIRS, OURS)))
    crisscross.save(theirs, tmp_path / "lip.safetensors")
    start_from(ours, tmp_path / "lip.safetensors")
    for layer in ("classify", "classify_before"):
        kept = getattr(ours.head, layer).weight[[0, 2]]
        assert torch.equal(kept, getattr(theirs.head, layer).weight[[2, 0]])
    # An edge is an edge, whatever the classes.
    assert torch.equal(ours.head.edge.fuse.weight, theirs.head.edge.fuse.weight)


def published(word):
    """A state dict of a publisher, and the network that it belongs to."""
    if word == "mmseg":
        return filled(mmseg_keys(R50, classes=19, channels=16, aux_channels=8)), {"backbone": "resnet50c"}
    if word == "authors":
        keys = authors_keys(R50, classes=19, channels=16, aux_channels=8)
        return filled(keys), {"backbone": "resnet50s", "variant": "authors", "align_corners": True}
    row = PUBLISHERS[word]
    model = {"backbone": row.backbones[6], "variant": row.experiment.model.variant}
    tensors = network(tuple(map(str, range(19))), **model).state_dict()
    return row.back(tensors), model


@pytest.mark.parametrize("word", PUBLISHERS)
def test_every_publishers_file_starts_a_training_on_three_classes(word, tmp_path):
    tensors, model = published(word)
    torch.save({"state_dict": tensors}, tmp_path / "their.pth")
    ours = network(OURS, **model)
    [said] = start_from(ours, tmp_path / "their.pth").lines
    assert said.endswith("new for traffic_light, cat, road (the weights do not name their classes)")
    theirs = crisscross.load(tmp_path / "their.pth").state_dict()
    same = [key for key, value in ours.state_dict().items() if torch.equal(value, theirs[key])]
    assert len(same) >= len(theirs) - 4 and "head.classify.weight" not in same
    colors, lines = with_colors_of(ours.experiment, tmp_path / "their.pth")
    assert (word in ("authors", "paddleseg")) == bool(lines)
    assert colors.preprocess.mean == PUBLISHERS[word].experiment.preprocess.mean


def test_names_in_a_publishers_metadata_keep_rows(tmp_path):
    tensors, model = published("mmseg")
    names = [*map(str, range(18)), "road"]
    torch.save({"meta": {"CLASSES": names}, "state_dict": tensors}, tmp_path / "their.pth")
    ours = network(OURS, **model)
    [said] = start_from(ours, tmp_path / "their.pth").lines
    assert "keep their rows for road and start anew for traffic_light, cat" in said
    assert torch.equal(ours.head.classify.weight[2], tensors["decode_head.conv_seg.weight"][18])


def test_another_network_is_refused_with_what_to_add(file):
    wide = network(OURS, **narrow(24, 8))
    wanted = (
        r"theirs\.safetensors: .* has shape .*; for the network of these weights add --set model\.head\.channels=16"
    )
    with pytest.raises(CrissCrossError, match=wanted):
        start_from(wide, file)
    with pytest.raises(CrissCrossError, match=r"^(?!.*classes).*add --set model\.backbone=test_resnet"):
        start_from(network(OURS, backbone="test_efficientnet", output_stride=16), file)


def test_what_is_done_otherwise_is_said(file):
    [said] = start_from(network(OURS, align_corners=True), file).lines
    assert said.endswith("; they were trained with model.align_corners=false (now true)")


def test_mean_and_std_go_with_the_weights_unless_the_user_set_them(file, tmp_path):
    other = replace(Experiment(), preprocess=PreprocessConfig(mean=(1.0, 2.0, 3.0), order="bgr"))
    found, [said] = with_colors_of(other, file)
    assert found.preprocess == PreprocessConfig()
    assert said == (
        f"the weights of {file} were trained with preprocess.mean=[123.675,116.28,103.53], preprocess.order=rgb: "
        "taken over"
    )
    assert with_colors_of(other, file, ["preprocess.order"]) == (other, [])
    assert with_colors_of(Experiment(), file) == (Experiment(), [])
    # The weights of a backbone alone say nothing of them.
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "net.pth")
    assert with_colors_of(other, tmp_path / "net.pth") == (other, [])


def test_the_weights_of_the_zoo_bring_their_license():
    ours = crisscross.build("ccnet-light", pretrained=False, classes=["road", "sea"])
    started = start_from(ours, "camvid-light")
    assert started.facts == {"init": "camvid-light", "license": "cc-by-nc-4.0"}
    assert started.lines == [
        "--init camvid-light: all is taken over; head.classify and aux_head.classify keep their rows for road and "
        "start anew for sea; license cc-by-nc-4.0, not for commercial use, as the weights of this run"
    ]
    theirs = crisscross.load("camvid-light")
    assert torch.equal(ours.head.classify.weight[0], theirs.head.classify.weight[theirs.classes.index("road")])


def test_weights_that_are_not_finite_are_no_start(tmp_path):
    broken = network(THEIRS)
    broken.head.classify.bias.data[0] = float("nan")
    crisscross.save(broken, tmp_path / "nan.safetensors")
    with pytest.raises(CrissCrossError, match=r"nan\.safetensors: head\.classify\.bias holds NaN"):
        start_from(network(OURS), tmp_path / "nan.safetensors")
