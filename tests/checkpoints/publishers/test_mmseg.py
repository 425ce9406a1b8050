"""Comparison with MMSegmentation's CCNet: its stored outputs where available, and its forward pass written out.

The second part needs nothing beside the project: a state dict in MMSegmentation's names, filled by a formula of key and
shape, run by functions that take each tensor by its key, and by `crisscross.load`.
"""

import json

import numpy as np
import pytest
import torch
from forward_passes import attention, conv, difference, filled
from networks import narrow
from paths import SHARED
from published_layouts import conv_norm_relu, mmseg_keys, resnet
from torch.nn import functional

import crisscross
from crisscross.checkpoints import native
from crisscross.checkpoints.publishers.table import MMSEG
from crisscross.config import ModelConfig
from crisscross.errors import CrissCrossError
from crisscross.models import Segmenter

REFERENCE = SHARED / "reference"
PROJECTIONS = [f"decode_head.cca.{name}_conv" for name in ("query", "key", "value")]
CASES = [(97, 129, 1), (64, 64, 2)]


@pytest.mark.parametrize(("depth", "blocks", "total"), [(50, (3, 4, 6, 3), 365), (101, (3, 4, 23, 3), 671)])
def test_every_published_key_has_one_place_in_our_network(depth, blocks, total):
    keys = mmseg_keys(blocks)
    assert len(keys) == total
    tensors = {key: torch.empty(shape, device="meta") for key, shape in keys.items()}
    assert MMSEG.recognizes(tensors)
    converted, experiment = MMSEG.convert(tensors)
    assert experiment.model == ModelConfig(backbone=f"resnet{depth}c")
    assert len(experiment.data.classes) == 19
    with torch.device("meta"):
        ours = Segmenter(experiment).state_dict()
    assert not MMSEG.recognizes(ours)
    # One to one: nothing missing, nothing left over, nothing in a place of another shape.
    assert {key: tuple(value.shape) for key, value in converted.items()} == {
        key: tuple(value.shape) for key, value in ours.items()
    }


def test_an_unpublished_depth_is_refused():
    tensors = {key: torch.empty(shape, device="meta") for key, shape in mmseg_keys((3, 4, 5, 3)).items()}
    with pytest.raises(CrissCrossError, match="unknown backbone resnet with 5 blocks in layer 3"):
        crisscross.load(tensors)


def test_classes_and_widths_come_from_the_shapes():
    shapes = mmseg_keys((3, 4, 6, 3), classes=7, channels=64, aux_channels=24)
    tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    _, experiment = MMSEG.convert(tensors)
    assert experiment.model == ModelConfig("resnet50c", **narrow(64, 24))
    assert len(experiment.data.classes) == len(experiment.data.palette) == 7
    without = {key: value for key, value in tensors.items() if not key.startswith("auxiliary_head.")}
    assert MMSEG.convert(without)[1].model.aux_head.channels == 0


def heads(tensors, third, fourth, recurrence=2):
    """Coarse logits of the decode head and of the auxiliary head."""
    attended = conv_norm_relu(tensors, "decode_head.convs.0", fourth)
    for _ in range(recurrence):
        attended = attention(tensors, PROJECTIONS, "decode_head.cca.gamma.scale", attended)
    attended = conv_norm_relu(tensors, "decode_head.convs.1", attended)
    joined = conv_norm_relu(tensors, "decode_head.conv_cat", torch.cat([fourth, attended], 1))
    aux = conv_norm_relu(tensors, "auxiliary_head.convs.0", third)
    return conv(tensors, "decode_head.conv_seg", joined), conv(tensors, "auxiliary_head.conv_seg", aux)


@pytest.fixture(scope="module")
def formula_tensors():
    return filled(mmseg_keys((3, 4, 6, 3), classes=7, channels=32, aux_channels=16))


@pytest.fixture(scope="module")
def loaded(formula_tensors):
    """Loaded once, from a wrapper with `state_dict`."""
    return crisscross.load({"state_dict": formula_tensors, "meta": {}})


@torch.no_grad()
def test_the_same_weights_give_the_logits_of_their_forward_pass(formula_tensors, loaded):
    x = torch.randn(1, 3, 33, 41, generator=torch.Generator().manual_seed(0))
    theirs = resnet(formula_tensors, x)
    decode, aux = heads(formula_tensors, *theirs)
    assert decode.shape == (1, 7, 5, 6)
    assert not loaded.training
    ours = loaded.backbone(x)
    assert difference(loaded.head(ours).main, decode) < 1e-4
    assert difference(loaded.aux_head(ours[-2]), aux) < 1e-4
    # The comparison is sharp: one pass less, a closed gate or a swapped pair of tensors is far outside it.
    assert difference(heads(formula_tensors, *theirs, recurrence=1)[0], decode) > 0.02
    for wrong in (
        {"decode_head.cca.gamma.scale": torch.tensor(0.0)},
        {
            "decode_head.cca.query_conv.weight": formula_tensors["decode_head.cca.key_conv.weight"],
            "decode_head.cca.key_conv.weight": formula_tensors["decode_head.cca.query_conv.weight"],
        },
    ):
        for tensors in (wrong, formula_tensors):
            renamed = {MMSEG.names.ours(key): tensors[key] for key in wrong}
            assert not loaded.load_state_dict(renamed, strict=False).unexpected_keys
            assert (difference(loaded.head(ours).main, decode) > 1e-3) == (tensors is wrong), list(wrong)


def test_wrappers_of_publishers_are_accepted(formula_tensors, tmp_path):
    wrapped = {"meta": {"epoch": 3}, "state_dict": {f"module.{key}": entry for key, entry in formula_tensors.items()}}
    torch.save(wrapped, tmp_path / "ccnet.pth")
    segmenter = crisscross.load(tmp_path / "ccnet.pth", recurrence=1, align_corners=True)
    assert segmenter.experiment.model.head.recurrence == 1 and segmenter.experiment.model.align_corners
    assert torch.equal(segmenter.head.classify.bias, formula_tensors["decode_head.conv_seg.bias"])


def test_what_does_not_fit_is_named(formula_tensors, loaded):
    without = {key: entry for key, entry in formula_tensors.items() if key != "decode_head.conv_cat.bn.bias"}
    with pytest.raises(CrissCrossError, match=r"state dict: head\.fuse\.norm\.bias is missing"):
        crisscross.load(without)
    more, _ = MMSEG.convert(formula_tensors | {"decode_head.mystery": torch.zeros(1)})
    with pytest.raises(CrissCrossError, match=r"a file: head\.mystery does not belong to this configuration"):
        native.fill(loaded, more, "a file")
    with pytest.raises(CrissCrossError, match=r"weights of no known system \(it holds a, \.\.\.\)"):
        crisscross.load({"a": torch.zeros(1)})


@pytest.fixture(scope="module")
def reference():
    """State dict by the stored formula, and the outputs that MMSegmentation 1.2.2 gave with it."""
    if not (REFERENCE / "mmseg_r50_c19_cases.npz").is_file():
        pytest.skip("MMSegmentation's stored outputs are not beside this checkout (../shared/reference)")
    names = {"__name__": "formula"}
    exec(compile((REFERENCE / "formula.py").read_text(encoding="utf-8"), "formula.py", "exec"), names)
    shapes = json.loads((REFERENCE / "mmseg_r50_c19_shapes.json").read_text(encoding="utf-8"))
    with np.load(REFERENCE / "mmseg_r50_c19_bn.npz") as statistics:
        made = names["state_dict"]({key: tuple(shape) for key, shape in shapes.items()}, dict(statistics))
    with np.load(REFERENCE / "mmseg_r50_c19_cases.npz") as stored:
        cases = dict(stored)
    return {key: torch.from_numpy(np.asarray(entry)) for key, entry in made.items()}, cases, names["picture"]


def test_the_key_list_is_theirs(reference):
    assert {key: tuple(entry.shape) for key, entry in reference[0].items()} == mmseg_keys((3, 4, 6, 3))


@torch.no_grad()
def test_the_stored_outputs_are_reproduced(reference):
    tensors, cases, image = reference
    segmenter = crisscross.load(tensors)
    for height, width, seed in CASES:
        case = f"{height}x{width}x{seed}"
        given = image(height, width, seed)
        x = segmenter.preprocess(torch.from_numpy(given).permute(2, 0, 1))
        maps = segmenter.backbone(x)
        assert difference(segmenter.head(maps).main, cases[f"{case}/decode"]) < 1e-4
        assert difference(segmenter.aux_head(maps[-2]), cases[f"{case}/aux"]) < 1e-4
        logits = functional.interpolate(segmenter.head(maps).main, (height, width), mode="bilinear")
        assert logits.mean().item() == pytest.approx(float(cases[f"{case}/full_mean"]), abs=1e-3)
        assert logits.std().item() == pytest.approx(float(cases[f"{case}/full_std"]), rel=1e-3)
        labels = segmenter.predict(given).labels
        assert labels.shape == (height, width)
        assert (labels == cases[f"{case}/argmax"]).all()
        # One pass less is something else altogether: this test can tell.
        segmenter.head.attend.recurrence = 1
        assert difference(segmenter.head(maps).main, cases[f"{case}/decode"]) > 0.1
        segmenter.head.attend.recurrence = 2
