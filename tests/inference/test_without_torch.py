"""A predictor of a NumPy function, in a process that has no torch, gives the labels of the same network in torch."""

import numpy as np
import pytest
import torch
from filter_bank import PLACES, SHIFTS, STRIDE, WEIGHT, every_mode
from fresh_python import BLOCK, run_python
from networks import narrow
from paths import TESTS
from torch.nn import functional

from crisscross.config import DataConfig, Experiment, InferenceConfig, ModelConfig, PreprocessConfig
from crisscross.inference import Card, Predictor
from crisscross.models import Logits, Segmenter

pytestmark = pytest.mark.usefixtures("one_thread")
BLOCKED = ("torch", "torchvision", "accelerate", "timm", "safetensors")
CODE = """
import sys
sys.path.insert(0, {helpers!r})
import numpy as np
from crisscross.inference import Predictor
from filter_bank import clip_logits, every_mode, logits
found = every_mode(lambda card: Predictor(logits if card.frames == 1 else clip_logits(card.label), card))
np.savez({path!r}, **found)
print("torch" in sys.modules)
"""


def segmenter_of(card: Card) -> Segmenter:
    """A network of ours whose coarse logits are the filter bank's."""
    model = ModelConfig("test_resnet", **narrow(8, 0), align_corners=card.align_corners)
    data = DataConfig(classes=card.classes, palette=card.palette, flip_pairs=card.flip_pairs)
    made = Segmenter(Experiment("x", model, data, card.preprocess, inference=card.inference))
    made.coarse = lambda x: Logits(coarse(x), None)
    assert made.predictor.card == card
    return made


def coarse(x: torch.Tensor) -> torch.Tensor:
    return functional.conv2d(x, torch.from_numpy(WEIGHT), stride=STRIDE, padding=4)


def torch_predictor(card: Card) -> Predictor:
    if card.frames == 1:
        return segmenter_of(card).predictor
    shifts = torch.from_numpy(SHIFTS[PLACES[card.label]])
    return Predictor(lambda x: torch.einsum("lt,tkhw->lkhw", shifts, coarse(x)), card, torch.as_tensor)


@pytest.fixture(scope="module")
def expected(one_thread) -> dict[str, np.ndarray]:
    return every_mode(torch_predictor)


def test_labels_without_torch_are_the_networks_own(expected, tmp_path):
    path = tmp_path / "found.npz"
    code = f"{BLOCK % (BLOCKED,)}{CODE.format(helpers=str(TESTS / 'helpers'), path=str(path))}"
    assert run_python(code).strip() == "False"
    found = np.load(path)
    assert sorted(found.files) == sorted(expected)
    for name, labels in expected.items():
        if labels.dtype == np.uint8:
            assert np.array_equal(found[name], labels), name
            assert len(np.unique(labels)) == 5 or "image" in name
        else:
            assert np.abs(found[name] - labels).max() < 1e-5, name


def test_modes_differ(expected):
    """Else the test above could compare one and the same labeling."""
    labels = {name: values for name, values in expected.items() if "video" in name}
    assert len({values.tobytes() for values in labels.values()}) == len(labels)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_card_is_that_of_the_experiment(frames):
    model = ModelConfig("test_resnet", 8, align_corners=True, frames=frames, label="last")
    data = DataConfig(classes=("a", "b"), ignore=254, flip_pairs=((0, 1),))
    preprocess, how = PreprocessConfig(scale=(50, 40)), InferenceConfig("slide", pad_to=(40, 50))
    found = Card.of(Experiment("x", model, data, preprocess, inference=how))
    assert found == Card(("a", "b"), found.palette, preprocess, how, True, ((0, 1),), 254, frames, "last")
    assert len(set(found.palette)) == 2 and found.places == (frames - 1,)
