"""`crisscross convert`: recognition, storage and refusals, conversion back, and metadata of MMSegmentation."""

import json

import numpy as np
import pytest
import torch
from forward_passes import filled
from published_layouts import R50, authors_keys, mmseg_keys, with_both_signs
from safetensors import safe_open
from safetensors.torch import save as library_save
from safetensors.torch import save_file

import crisscross
from crisscross.checkpoints import native
from crisscross.checkpoints.convert import convert, save_as
from crisscross.checkpoints.loading import by_recipe, read_source
from crisscross.checkpoints.publishers.metadata import with_metadata
from crisscross.checkpoints.publishers.table import MMSEG, PUBLISHERS
from crisscross.checkpoints.reading import read_state_dict
from crisscross.checkpoints.writing import write_safetensors
from crisscross.cli import main
from crisscross.config import DataConfig, Experiment, differences
from crisscross.data.sets import camvid
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.zoo import RECIPES, known_classes

WIDTHS = {"channels": 16, "aux_channels": 8}
HEADS = {"head": {"channels": 16, "recurrence": 1}, "aux_head": {"channels": 8}}
# MMSegmentation writes its configuration as Python text.
CONFIG = """
norm_cfg = dict(type='SyncBN', requires_grad=True)
crop_size = (769, 769)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(bgr_to_rgb=True, mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], size=crop_size),
    backbone=dict(type='ResNetV1c', strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True),
    decode_head=dict(type='CCHead', recurrence=3, align_corners=True, norm_cfg=norm_cfg),
    test_cfg=dict(mode='slide', crop_size=(769, 769), stride=(513, 513)))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2049, 1025), keep_ratio=True),
]
"""


@pytest.fixture(scope="module")
def mmseg_tensors():
    return filled(mmseg_keys(R50, classes=3, **WIDTHS))


@pytest.fixture(scope="module")
def checkpoint(mmseg_tensors, tmp_path_factory):
    """A file as MMSegmentation 1.x writes it, in half precision to be small."""
    tensors = {key: value.half() if value.is_floating_point() else value for key, value in mmseg_tensors.items()}
    meta = {
        "dataset_meta": {"classes": ("road", "sky ", "car"), "palette": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]},
        "cfg": CONFIG,
    }
    path = tmp_path_factory.mktemp("mmseg") / "ccnet.pth"
    torch.save({"meta": meta, "state_dict": tensors}, path)
    return path


def run(capsys, *words):
    """Exit code, standard output and standard error."""
    code = main(["convert", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def same(found, expected):
    return found.keys() == expected.keys() and all(
        found[key].shape == expected[key].shape and torch.equal(found[key], expected[key]) for key in expected
    )


def test_everything_in_the_file_is_stored(checkpoint, mmseg_tensors, tmp_path, capsys):
    code, out, err = run(capsys, checkpoint, tmp_path / "x.safetensors", "--half")
    assert (code, err) == (0, "")
    parameters = sum(value.numel() for key, value in mmseg_tensors.items() if "running" not in key and "num" not in key)
    for words in (
        "recognized: MMSegmentation's CCNet (R = 3) on resnet50c at output stride 8",
        f"tensors: 365, parameters: {parameters:,}",
        "classes: 3 (road, sky, car)",
        "variant: mmseg, align_corners: true",
        "rgb, mean [1.0, 2.0, 3.0], std [4.0, 5.0, 6.0]; inference: slide",
    ):
        assert words in out
    tensors, experiment, facts = native.read(tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert {file.get_slice(key).get_dtype() for key in tensors} == {"F16", "I64"}
    assert facts == {"publisher": "mmseg"}
    assert experiment.data.classes == ("road", "sky", "car")
    assert experiment.data.palette == ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    assert experiment.preprocess.scale == (2049, 1025)
    assert (experiment.inference.window, experiment.inference.stride) == ((769, 769), (513, 513))
    assert torch.equal(tensors["head.fuse.conv.weight"], mmseg_tensors["decode_head.conv_cat.conv.weight"].half())


def test_class_names_from_the_command_line(checkpoint, tmp_path, capsys):
    (tmp_path / "classes.txt").write_text("a\n b\n\nc\n", encoding="utf-8")
    assert run(capsys, checkpoint, tmp_path / "x.safetensors", "--classes", tmp_path / "classes.txt")[0] == 0
    assert native.read_header(tmp_path / "x.safetensors")[0].data.classes == ("a", "b", "c")
    for words, count in (("a, b", 2), ("camvid", 11)):
        code, _, err = run(capsys, checkpoint, tmp_path / "y.safetensors", "--classes", words)
        assert (code, err) == (2, f"crisscross: {checkpoint}: {count} class names for weights with 3 classes\n")
    assert not (tmp_path / "y.safetensors").exists()


def test_a_data_set_without_known_classes(checkpoint, tmp_path, capsys):
    code, _, err = run(capsys, checkpoint, tmp_path / "x.safetensors", "--classes", "folder")
    assert code == 2 and "no data set 'folder' with known classes; known: " in err and "camvid" in err
    known = known_classes("camvid")
    assert (known.classes, known.palette, known.flip_pairs) == (camvid.CLASSES, camvid.PALETTE, ())


def test_a_recipe_decides_what_the_file_does_not_say(checkpoint, tmp_path, capsys, monkeypatch):
    row = {"model": {"backbone": "resnet50c", **HEADS}, "optim": {"lr": 0.02}}
    monkeypatch.setitem(RECIPES, "mine", row)
    assert (
        run(capsys, checkpoint, tmp_path / "x.safetensors", "--recipe", "mine", "--set", "model.align_corners=true")[0]
        == 0
    )
    experiment = native.read_header(tmp_path / "x.safetensors")[0]
    assert (experiment.name, experiment.model.head.recurrence, experiment.optim.lr) == ("mine", 1, 0.02)
    assert experiment.model.align_corners and experiment.data.classes == ("road", "sky", "car")
    # One of other widths does not fit, nor one of a data set with other classes.
    monkeypatch.setitem(RECIPES, "wide", {"model": {"backbone": "resnet50c", "aux_head": {"channels": 8}}})
    code, _, err = run(capsys, checkpoint, tmp_path / "y.safetensors", "--recipe", "wide")
    assert code == 2 and "of another shape: decode_head.convs.0.conv.weight\n" in err
    code, _, err = run(capsys, checkpoint, tmp_path / "y.safetensors", "--recipe", "camvid-r50")
    assert code == 2 and "the file has 3 classes, the recipe camvid-r50 has 11; choose the recipe" in err
    assert not (tmp_path / "y.safetensors").exists()


def test_conversion_back_to_mmsegmentation_is_exact(checkpoint, mmseg_tensors, tmp_path, capsys):
    # The embedding that this loss trains with is left out: MMSegmentation has none.
    terms = "loss.terms=[{name: cross_entropy}, {name: category_consistent}]"
    words = ("--to", "mmseg", "--set", "model.head.recurrence=1", "--set", terms)
    assert run(capsys, checkpoint, tmp_path / "back.pth", *words)[0] == 0
    content = torch.load(tmp_path / "back.pth", weights_only=True)
    assert same(content["state_dict"], {key: value.half().to(value.dtype) for key, value in mmseg_tensors.items()})
    assert content["meta"]["CLASSES"] == content["meta"]["dataset_meta"]["classes"] == ["road", "sky", "car"]
    assert content["meta"]["PALETTE"] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    # What their words have no place for travels in ours.
    assert (
        crisscross.load(tmp_path / "back.pth").experiment
        == convert(checkpoint, changes=["model.head.recurrence=1", terms])[0].experiment
    )


@pytest.mark.slow
def test_conversion_back_to_the_authors_is_exact(tmp_path):
    tensors = with_both_signs(filled(authors_keys(R50, classes=3, **WIDTHS)))
    path = tmp_path / "x.pth"
    segmenter = crisscross.load(tensors)
    save_as(segmenter, path, "authors")
    assert same(read_state_dict(path), tensors)
    again = read_source(path)
    assert (again.publisher, again.experiment) == ("authors", segmenter.experiment)
    assert again.tensors.keys() == segmenter.state_dict().keys()


def test_formats_that_are_only_read_are_not_written(checkpoint, tmp_path, capsys):
    assert [word for word, publisher in PUBLISHERS.items() if publisher.written] == ["mmseg", "authors"]
    for word in ("sssegmentation", "paddleseg", "nobody"):
        with pytest.raises(
            CrissCrossError, match=rf"x\.pth: weights cannot be written for '{word}'; known: mmseg, authors"
        ):
            save_as(crisscross.load("camvid-light"), tmp_path / "x.pth", word)
    code, _, err = run(capsys, checkpoint, tmp_path / "x.pth", "--to", "paddleseg")
    assert code == 2 and "known: mmseg, authors" in err
    assert not list(tmp_path.iterdir())


def test_a_network_that_the_publisher_does_not_have(checkpoint, tmp_path, capsys):
    code, _, err = run(capsys, checkpoint, tmp_path / "x.pth", "--to", "authors")
    message = "the authors' repository has no such network: model.backbone=resnet50c (theirs: resnet50s, resnet101s)"
    assert (code, err) == (2, f"crisscross: {tmp_path / 'x.pth'}: {message}\n")
    for name, words in (("x.pth", []), ("x.safetensors", ["--to", "mmseg"])):
        code, _, err = run(capsys, checkpoint, tmp_path / name, *words)
        assert code == 2 and f"{name}: must end in ." in err
    assert not list(tmp_path.iterdir())


def test_our_writer_writes_what_the_library_would(tmp_path):
    tensors = {
        "z": torch.tensor(7.0),
        "wide": torch.tensor([[1.5, -2.5]], dtype=torch.float64),
        "half": torch.arange(3).half(),
        "brain": torch.arange(6.0).reshape(1, 2, 3).bfloat16(),
        "counts": torch.tensor([-(2**40), 1]),
        "none": torch.zeros(0, 3),
        "truth": torch.tensor([True, False, True]),
        "b\u00fcro": torch.tensor([200, 3], dtype=torch.uint8),
        **{str(dtype): torch.tensor([-3], dtype=dtype) for dtype in (torch.int32, torch.int16, torch.int8)},
    }
    write_safetensors(tmp_path / "ours", tensors, {"format": native.FORMAT})
    assert (tmp_path / "ours").read_bytes() == library_save(tensors, {"format": native.FORMAT})


def test_the_same_weights_are_the_same_bytes(mmseg_tensors, tmp_path):
    network = crisscross.load("camvid-light")
    # Without care three words of metadata come in one of six orders, by chance.
    for number in range(8):
        native.save(network, tmp_path / f"{number}.safetensors", facts={"publisher": "mmseg"})
    (first, *others) = [path.read_bytes() for path in tmp_path.iterdir()]
    assert all(other == first for other in others)
    tensors, experiment, facts = native.read(tmp_path / "0.safetensors")
    assert (experiment, facts) == (network.experiment, {"publisher": "mmseg"})
    assert same(tensors, network.state_dict())
    # As two processes call their temporary files.
    network = crisscross.load(mmseg_tensors)
    for name in ("a.pth", "b.pth"):
        save_as(network, tmp_path / name, "mmseg")
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


def test_every_tensor_that_does_not_fit_is_listed(mmseg_tensors, tmp_path, capsys):
    tensors = dict(mmseg_tensors)
    del tensors["decode_head.conv_cat.bn.bias"], tensors["backbone.stem.0.weight"]
    tensors |= {
        "decode_head.mystery": torch.zeros(1),
        "data_preprocessor.mean": torch.zeros(3),
        "ema_x": torch.zeros(1),
    }
    torch.save({"state_dict": tensors}, tmp_path / "x.pth")
    code, out, err = run(capsys, tmp_path / "x.pth", tmp_path / "x.safetensors")
    assert code == 2 and out == ""
    assert err.splitlines() == [
        "missing: backbone.stem.0.weight",
        "missing: decode_head.conv_cat.bn.bias",
        "left over: decode_head.mystery",
        f"crisscross: {tmp_path / 'x.pth'}: backbone.net.conv1.0.weight is missing; the file does not fit this "
        "configuration (2 of 365 tensors are)",
    ]
    assert not (tmp_path / "x.safetensors").exists()


def test_half_of_the_tensors(mmseg_tensors):
    keys = list(mmseg_tensors)
    half = {key: mmseg_tensors[key] for key in keys[: len(keys) // 2]}
    with pytest.raises(CrissCrossError, match=r"^state dict: weights of no known system \(it holds backbone"):
        crisscross.load(half)
    half = {key: mmseg_tensors[key] for key in keys[len(keys) // 2 :]}
    with pytest.raises(
        CrissCrossError, match=r"backbone\.net\.conv1\.0\.weight is missing; .*\(\d+ of 365 tensors are\)$"
    ):
        crisscross.load(half)
    only_attention = {key: value for key, value in mmseg_tensors.items() if ".cca." in key}
    with pytest.raises(
        CrissCrossError, match=r"^state dict: an incomplete CCNet: decode_head\.conv_seg\.weight is missing$"
    ):
        crisscross.load(only_attention)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_nan_or_infinite(mmseg_tensors, bad):
    broken = mmseg_tensors["decode_head.convs.0.conv.weight"].clone()
    broken[1, 2, 0, 0] = bad
    with pytest.raises(CrissCrossError, match=r"^state dict: head\.reduce\.conv\.weight holds NaN or infinity"):
        crisscross.load(mmseg_tensors | {"decode_head.convs.0.conv.weight": broken})


def test_tensors_of_unusual_kinds(mmseg_tensors):
    weight = mmseg_tensors["decode_head.conv_seg.weight"]
    for odd in (weight.to_sparse(), weight.to("meta"), weight.to(torch.complex64)):
        with pytest.raises(CrissCrossError, match=r"^state dict: head\.classify\.weight is sparse, quantized, complex"):
            crisscross.load(mmseg_tensors | {"decode_head.conv_seg.weight": odd})


@pytest.mark.parametrize("part", ["decode_head.cca.query_conv", "decode_head.conv_seg", "auxiliary_head.conv_seg"])
@pytest.mark.parametrize("shape", [(), (0, 16, 1, 1)])
def test_tensors_of_senseless_shapes(mmseg_tensors, part, shape):
    with pytest.raises(CrissCrossError, match=rf"^state dict: {part}\.weight has shape .*, not that of a convolution$"):
        crisscross.load(mmseg_tensors | {f"{part}.weight": torch.zeros(shape)})


def test_values_too_large_for_half_precision(mmseg_tensors, tmp_path):
    segmenter = crisscross.load(mmseg_tensors | {"decode_head.conv_seg.bias": torch.tensor([0.0, 7e4, 0.0])})
    with pytest.raises(CrissCrossError, match=r"head\.classify\.bias has values too large for torch\.float16; store"):
        crisscross.save(segmenter, tmp_path / "x.safetensors", torch.float16)
    assert not list(tmp_path.iterdir())


def test_another_number_of_classes(mmseg_tensors):
    message = r"^state dict: head\.classify\.weight has shape \[3, .*\(the file has 3 classes, the configuration 2\)$"
    with pytest.raises(CrissCrossError, match=message):
        crisscross.load(mmseg_tensors, classes=["a", "b"])


@pytest.fixture
def published():
    return Experiment("x", data=DataConfig(classes=("class 0", "class 1")))


def test_metadata_of_0x(published):
    config = (
        "img_norm_cfg = dict(mean=[9.0, 8.0, 7.0], std=[1.0, 2.0, 3.0], to_rgb=False)\n"
        "test_cfg = dict(mode='slide', crop_size=(65, 129), stride=(33, 65))\n"
        "test_pipeline = [dict(type='MultiScaleFlipAug', img_scale=(2049, 1025), flip=False)]\n"
        "model = dict(decode_head=dict(align_corners=True), backbone=dict(strides=(1, 2, 2, 1)))\n"
    )
    meta = {"CLASSES": ("a", "b"), "PALETTE": [[0, 0, 1], [0, 0, 2]], "config": config, "mmseg_version": "0.5.0"}
    found = with_metadata(published, meta, "f")
    assert found.data.classes == ("a", "b") and found.data.palette == ((0, 0, 1), (0, 0, 2))
    assert found.preprocess.order == "bgr" and found.preprocess.mean == (9, 8, 7)
    assert found.preprocess.scale == (2049, 1025)
    assert (found.inference.mode, found.inference.window, found.inference.stride) == ("slide", (65, 129), (33, 65))
    assert found.model.align_corners and found.model.output_stride == 16
    assert found.model.variant == "mmseg"
    # Their networks do not contract unless they are told to.
    dilated = config + "model = dict(backbone=dict(dilations=(1, 1, 2, 4)))\n"
    with pytest.raises(CrissCrossError, match=r"^f: its configuration text: contract_dilation=False: no published"):
        with_metadata(published, {**meta, "config": dilated}, "f")


def test_strides_that_are_not_numbers(published):
    # Multiplied, a text of three letters would take gigabytes.
    for strides in ("('abc', 1000000000, 1000000000)", "(1, 2.0, 1, 1)", "(True, 2)", "'12'"):
        with pytest.raises(CrissCrossError, match=r"^f: its configuration text: the backbone's strides must be whole"):
            with_metadata(published, {"cfg": f"model = dict(backbone=dict(strides={strides}))"}, "f")


def test_metadata_without_known_entries_changes_nothing(published):
    for config in ("model = dict(", "", "import os\nos.system('x')", "x = dict(y=f(1))", "model = 3"):
        assert with_metadata(published, {"config": config, "epoch": 3}, "f") == published
    text = "model = dict(decode_head=dict(num_classes=150, align_corners=some_name), test_cfg=dict(mode='whole'))"
    assert with_metadata(published, {"cfg": text}, "f") == published


def test_metadata_that_contradicts_the_weights_is_refused(published):
    with pytest.raises(CrissCrossError, match=r"^f: 3 class names for weights with 2 classes$"):
        with_metadata(published, {"CLASSES": ("a", "b", "c")}, "f")
    with pytest.raises(CrissCrossError, match=r"^f: data\.classes must be distinct names"):
        with_metadata(published, {"CLASSES": ("a", "a")}, "f")
    with pytest.raises(CrissCrossError, match=r"^f: its configuration text: model\.output_stride must be 8, 16 or 32"):
        with_metadata(published, {"cfg": "model = dict(backbone=dict(strides=(1, 1, 1, 1)))"}, "f")
    with pytest.raises(CrissCrossError, match=r"^f: unknown key modle"):
        with_metadata(published, {"crisscross": json.dumps({"modle": {}})}, "f")
    # Colors that are too few are replaced, names are not lost over them.
    found = with_metadata(published, {"CLASSES": ("a", "b"), "PALETTE": [[1, 2, 3]]}, "f")
    assert len(found.data.palette) == 2


@pytest.mark.parametrize(
    "palette",
    [
        [["a", "b", "c"]] * 2,
        [[1, 2]] * 2,
        [None, None],
        [1, 2],
        {"a": 0, "b": 1},
        [[float("nan")] * 3] * 2,
        [[float("inf")] * 3] * 2,
        7,
    ],
)
def test_invalid_colors_do_not_discard_the_names(published, palette):
    found = with_metadata(published, {"CLASSES": np.array(["a", "b"]), "PALETTE": palette}, "f")
    assert found.data.classes == ("a", "b") and len(found.data.palette) == 2


def test_invalid_class_names_and_experiments(published):
    for names in (5, "ab"):
        with pytest.raises(CrissCrossError, match=r"^f: its class names are not a list, but (5|'ab')$"):
            with_metadata(published, {"CLASSES": names}, "f")
    with pytest.raises(CrissCrossError, match=r"^f: its experiment: not valid JSON: .* nested"):
        with_metadata(published, {"crisscross": "[" * 100_000}, "f")


@pytest.mark.parametrize("facts", ["[1]", "5", "null", "[" * 100_000])
def test_facts_must_be_a_mapping(tmp_path, facts):
    header = {"format": native.FORMAT, "experiment": json.dumps({"name": "x"}), "facts": facts}
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", header)
    with pytest.raises(
        CrissCrossError, match=r"x\.safetensors: its facts(: not valid JSON: .* nested| must be a mapping)"
    ):
        native.read(tmp_path / "x.safetensors")


def test_our_own_experiment_is_used_as_a_whole(published):
    own = json.dumps({"name": "own", "model": {"head": {"recurrence": 1}}, "data": {"classes": ["u", "v"]}})
    found = with_metadata(published, {"crisscross": own, "CLASSES": ("a", "b")}, "f")
    assert set(differences(found, published)) == {"name", "model.head.recurrence", "data.classes"}
    assert MMSEG.experiment.model.head.recurrence == 2


def test_a_recipe_that_contradicts_the_file_warns(tmp_path):
    tensors = filled(mmseg_keys(R50, 19, **WIDTHS))
    text = "model = dict(decode_head=dict(recurrence=3, align_corners=True), test_cfg=dict(mode='slide'))"
    torch.save({"meta": {"config": text}, "state_dict": tensors}, tmp_path / "slide.pth")
    loaded = read_source(tmp_path / "slide.pth")
    name = "ccnet_r50-d8_4xb2-40k_cityscapes-512x1024"
    with pytest.warns(CrissCrossWarning) as caught:
        assert by_recipe(loaded, name).model.head.recurrence == 2
    (line,) = [str(entry.message) for entry in caught]
    for words in (
        "slide.pth: says",
        "model.head.recurrence=3 (recipe: 2)",
        "model.align_corners=True",
        f"recipe {name} is",
    ):
        assert words in line
    assert "inference.mode=slide (recipe: whole)" in line
    # The file's own words agree with this one, but for the recurrence.
    with pytest.warns(CrissCrossWarning) as caught:
        by_recipe(loaded, name.replace("512x1024", "769x769"))
    assert "says model.head.recurrence=3 (recipe: 2); the" in str(caught[0].message)
