"""`crisscross.predictor`: one predictor of a network, wherever that is; and what counts as an image."""

import re
import shutil

import numpy as np
import pytest
import torch
from coarse_networks import image_of, small_segmenter
from filter_bank import CARDS, card, clip_logits, logits
from filter_bank import image_of as bank_image

import crisscross
from crisscross.errors import CrissCrossError
from crisscross.inference import Card, Predictor, predictor

pytestmark = pytest.mark.usefixtures("one_thread")
IMAGE = image_of(40, 60)


@pytest.fixture(scope="module")
def segmenter():
    return small_segmenter()


def test_a_network_a_file_and_a_folder_give_one_predictor(segmenter, tmp_path):
    crisscross.save(segmenter, tmp_path / "net.safetensors")
    (tmp_path / "run").mkdir()
    shutil.copy(tmp_path / "net.safetensors", tmp_path / "run" / "best.safetensors")
    expected = crisscross.load(tmp_path / "net.safetensors").predict(IMAGE).labels
    assert len(np.unique(expected)) > 1
    for source in (tmp_path / "net.safetensors", str(tmp_path / "run")):
        predictor = crisscross.predictor(source)
        assert predictor.card == segmenter.predictor.card and predictor.classes == segmenter.classes
        assert np.array_equal(predictor.predict(IMAGE).labels, expected)
    own = crisscross.predictor(segmenter)
    assert np.array_equal(own.predict(IMAGE).labels, segmenter.predict(IMAGE).labels)
    assert crisscross.predictor(own) is own and own.device == "cpu"


def test_a_name_and_options_are_those_of_load():
    predictor = crisscross.predictor("camvid-light", **{"inference.mode": "slide"})
    assert len(predictor.palette) == 11 and predictor.card.inference.mode == "slide"
    with pytest.raises(CrissCrossError, match="no such file or run folder"):
        crisscross.predictor("camvid-lite")


def test_a_network_that_does_not_label_pixels_is_refused():
    with pytest.raises(CrissCrossError, match=r"^Linear gives no labels of pixels; call its own predict method$"):
        crisscross.predictor(torch.nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(3, 4, 5), "an image tensor must be uint8 [3, H, W], got torch.float32 [3, 4, 5]"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), "must be uint8 [3, H, W], got torch.uint8 [4, 5, 3]"),
        (np.zeros((4, 5)), "an image array must be uint8 (0..255), got float64"),
        (17, "an image must be a path, a PIL image or a uint8 array, got int"),
    ],
)
def test_what_is_no_image_is_one_line(segmenter, image, words):
    for label in (segmenter.predict, segmenter.predictor.logits, lambda x: list(segmenter.predictor.label_frames([x]))):
        with pytest.raises(CrissCrossError, match=re.escape(words)):
            label(image)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "got NoneType"),
        ("labels", "got str"),
        (np.zeros((1, 3, 4, 4), np.float32), r"logits \[1, 2, h, w\].*got .*ndarray \[(1, )?3, 4, 4\]"),
        (np.zeros((2, 4, 4), np.float32), r"got ndarray \[2, 4, 4\]"),
        (np.zeros((2, 2, 4, 4), np.float32), r"got ndarray \[2, 2, 4, 4\]"),
    ],
)
@pytest.mark.parametrize("frames", [1, 3])
def test_what_a_function_returns_is_checked_once(found, said, frames, monkeypatch):
    card = Card(("a", "b"), ((0, 0, 0), (9, 9, 9)), frames=frames)
    image = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(CrissCrossError, match=said):
        Predictor(lambda x: found, card).predict(image)
    good = Predictor(lambda x: np.zeros((1, 2, 4, 4), np.float32), card)
    good.predict(image)
    monkeypatch.setattr(predictor, "check_logits", None)
    good.predict(image)


def test_arrays_tensors_and_files_are_one_image(segmenter, tmp_path):
    from PIL import Image

    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    tensor = torch.from_numpy(IMAGE).permute(2, 0, 1)
    expected = segmenter.predict(IMAGE).labels
    frames = [IMAGE, tensor, tensor.contiguous(), tmp_path / "a.png", Image.fromarray(IMAGE)]
    for labels in (*(segmenter.predict(one).labels for one in frames), *segmenter.predictor.label_frames(frames)):
        assert np.array_equal(labels, expected)
    # Items come back beside the labels of their own frame.
    found = list(segmenter.predictor.label_items(zip("abcde", frames, strict=True)))
    assert [item for item, _ in found] == list("abcde")
    assert list(segmenter.predictor.label_frames([])) == []


@pytest.mark.parametrize("size", [(75, 101), (20, 90)])
@pytest.mark.parametrize("name", CARDS)
def test_a_batch_has_the_labels_of_its_images(name, size):
    shapes = []
    own = card(**CARDS[name])
    function = logits if own.frames == 1 else clip_logits(own.label)

    def logits_of(x):
        shapes.append(x.shape)
        return function(x)

    found = Predictor(logits_of, own)
    images = [bank_image(*size, seed) for seed in range(3)]
    expected = [found.predict(image).labels for image in images]
    shapes.clear()
    batch = [one.labels for one in found.predict(images)]
    assert len(batch) == 3 and len({labels.tobytes() for labels in batch}) == 3
    for labels, alone in zip(batch, expected, strict=True):
        assert labels.dtype == np.uint8 and np.array_equal(labels, alone)
    # A network for clips sees one clip after the other.
    assert {shape[0] for shape in shapes} == {3}


def test_the_content_of_a_file_is_an_image(segmenter, tmp_path):
    from PIL import Image

    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    assert np.array_equal(segmenter.predict(content).labels, segmenter.predict(IMAGE).labels)
    for broken, said in (
        (b"", "image: empty file"),
        (b"abc", "image: not an image"),
        (content[:200], "image: cannot be"),
    ):
        with pytest.raises(CrissCrossError, match=f"^{said}"):
            segmenter.predict(broken)
