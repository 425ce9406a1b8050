"""What a prediction says about its image, and what `predict` takes."""

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from coarse_networks import image_of, small_segmenter
from PIL import Image

from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.inference import Card, Prediction, Predictor
from crisscross.inference.legend import percent, with_legend
from crisscross.inference.sources import batches

pytestmark = pytest.mark.usefixtures("one_thread")
CARD = Card(("road", "sky", "tree", "car", "pole"), ((9, 9, 9), (0, 0, 255), (0, 200, 0), (255, 0, 0), (80, 80, 0)))
LABELS = np.array([[1, 1, 1, 1, 1], [0, 0, 0, 0, 2], [0, 0, 0, 0, 0], [0, 0, 0, 4, 2]], np.uint8)
IMAGE = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def segmenter():
    return small_segmenter()


def test_classes_and_fractions_by_hand():
    found = Prediction(LABELS, card=CARD)
    assert found.classes == ("road", "sky", "tree", "pole")
    assert found.fractions() == {"road": 12 / 20, "sky": 5 / 20, "tree": 2 / 20, "car": 0, "pole": 1 / 20}
    assert str(found) == "road 60%, sky 25%, tree 10%, 1 more"
    assert str(Prediction(LABELS[:1], card=CARD)) == "sky 100%"
    assert [percent(value) for value in (0, 0.004, 0.005001, 0.994, 0.996, 1)] == [
        "0%",
        "<1%",
        "1%",
        "99%",
        "100%",
        "100%",
    ]


def test_color_and_overlay_by_hand():
    found = Prediction(LABELS, card=CARD)
    colors = np.array(CARD.palette)[LABELS]
    assert np.array_equal(np.asarray(found.color()), colors)
    for opacity in (0, 0.25, 1):
        drawn = np.asarray(found.overlay(IMAGE, opacity)).astype(float)
        assert np.abs(drawn - (IMAGE * (1 - opacity) + colors * opacity)).max() <= 0.5
    for given in (Image.fromarray(IMAGE), torch.from_numpy(IMAGE).permute(2, 0, 1)):
        assert np.array_equal(np.asarray(found.overlay(given)), np.asarray(found.overlay(IMAGE)))


@pytest.mark.parametrize(
    ("image", "opacity", "words"),
    [
        (None, 0.5, "overlay needs the image, since no file was labeled: prediction.overlay(image)"),
        (IMAGE[:2], 0.5, "the image is 5 x 2, the labels are 5 x 4: an overlay needs one size"),
        (IMAGE, 1.5, "opacity must lie in 0..1, got 1.5"),
        ("nowhere.png", 0.5, "nowhere.png"),
    ],
)
def test_an_overlay_that_cannot_be_made(image, opacity, words):
    with pytest.raises(CrissCrossError, match=re.escape(words)):
        Prediction(LABELS, card=CARD).overlay(image, opacity)


def test_saved_files(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "street.png")
    found = Prediction(LABELS, card=CARD, source=tmp_path / "street.png")
    written = found.save(tmp_path / "out")
    names = ["labels/street.png", "color/street.png", "overlay/street.png", "classes.json"]
    assert written == [tmp_path / "out" / name for name in names]
    labels, color, drawn = (Image.open(path) for path in written[:3])
    assert np.array_equal(np.asarray(labels), LABELS) and np.array_equal(np.asarray(color), np.asarray(found.color()))
    assert np.array_equal(np.asarray(drawn), np.asarray(found.overlay(IMAGE)))
    assert json.loads(written[3].read_text()) == [
        {"id": n, "name": CARD.classes[n], "color": list(CARD.palette[n])} for n in range(5)
    ]
    plain = Prediction(LABELS, card=CARD)
    with pytest.warns(CrissCrossWarning, match=r"no overlay is written.*prediction\.save\(folder, image\)"):
        assert len(plain.save(tmp_path / "plain")) == 3
    assert not (tmp_path / "plain/overlay").exists()
    assert (tmp_path / "plain/labels/image.png").is_file()
    assert len(plain.save(tmp_path / "plain", IMAGE, "a/b")) == 4 and (tmp_path / "plain/overlay/a/b.png").is_file()


def test_saving_replaces_no_file_of_others(tmp_path):
    found = Prediction(LABELS, card=CARD)
    found.save(tmp_path, IMAGE)
    found.save(tmp_path, IMAGE)
    (tmp_path / "labels/image.png").write_text("mine")
    with pytest.raises(CrissCrossError, match=r"labels/image\.png: exists"):
        found.save(tmp_path, IMAGE)
    assert (tmp_path / "labels/image.png").read_text() == "mine"
    found.save(tmp_path, IMAGE, force=True)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "labels/image.png")), LABELS)
    with pytest.raises(CrissCrossError, match="does not name a file below"):
        found.save(tmp_path / "x", IMAGE, name="../y")


@pytest.mark.parametrize("size", [(8, 8), (640, 30), (300, 2000)])
def test_a_legend_covers_nothing_and_shows_every_color(size):
    image = Image.new("RGB", size, (1, 2, 3))
    entries = [(f"class {n} 3%", (10 * n, 200, 99)) for n in range(1, 20)]
    drawn = with_legend(image, entries)
    assert np.array_equal(np.asarray(drawn)[: size[1], : size[0]], np.asarray(image))
    assert drawn.height > size[1] and drawn.width >= size[0]
    below = np.asarray(drawn)[size[1] :].reshape(-1, 3)
    for _, color in entries:
        assert (below == color).all(1).sum() > 100
    assert (below == 0).all(1).sum() > 50 * len(entries)
    assert with_legend(image, []) is image


def test_a_legend_names_the_classes_that_occur():
    plain, more = Prediction(LABELS, card=CARD), Prediction(np.full((4, 5), 3, np.uint8), card=CARD)
    colors = set(map(tuple, np.asarray(plain.overlay(IMAGE, legend=True))[4:].reshape(-1, 3).tolist()))
    assert {CARD.palette[n] for n in (0, 1, 2, 4)} <= colors and CARD.palette[3] not in colors
    assert plain.overlay(IMAGE, legend=True).height > more.overlay(IMAGE, legend=True).height


def images(tmp_path: Path) -> dict[str, object]:
    """One image in every form."""
    rgb = image_of(40, 60)
    Image.fromarray(rgb).save(tmp_path / "p.png")
    locked = rgb.copy()
    locked.flags.writeable = False
    turned = np.ascontiguousarray(rgb[::-1, ::-1])[::-1, ::-1]
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)
    return {
        "array": rgb,
        "text": str(tmp_path / "p.png"),
        "path": tmp_path / "p.png",
        "image": Image.fromarray(rgb),
        "locked": locked,
        "turned": turned,
        "tensor": tensor,
        "contiguous": tensor.contiguous(),
        "transparent": Image.fromarray(rgb).convert("RGBA"),
    }


def test_every_form_of_an_image_gives_the_same_labels(segmenter, tmp_path):
    forms = images(tmp_path)
    expected = segmenter.predict(forms["array"])
    assert len(expected.classes) > 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, image in forms.items():
            found = segmenter.predict(image)
            assert np.array_equal(found.labels, expected.labels), name
            assert found.source == (tmp_path / "p.png" if name in ("text", "path") else None)
        together = segmenter.predict(list(forms.values()))
    assert len(together) == len(forms)
    assert all(np.array_equal(one.labels, expected.labels) for one in together)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "I", "I;16"]
)
def test_images_of_every_mode(segmenter, mode):
    gray = Image.fromarray(image_of(40, 60)).convert("L")
    through = {"PA": ("RGBA", "P", "PA"), "La": ("LA", "La"), "RGBa": ("RGBA", "RGBa"), "HSV": ("RGB", "HSV")}
    image = gray
    for step in through.get(mode, ("I", "I;16") if mode == "I;16" else (mode,)):
        image = image.convert(step)
    assert image.mode == mode
    assert segmenter.predict(image).labels.shape == (40, 60)


def test_gray_arrays_are_gray_images(segmenter):
    gray = image_of(40, 60)[..., 0]
    locked = gray.copy()
    locked.flags.writeable = False
    expected = segmenter.predict(np.repeat(gray[..., None], 3, 2)).labels
    assert all(np.array_equal(one.labels, expected) for one in segmenter.predict([gray, locked, Image.fromarray(gray)]))


def test_a_list_gives_what_its_images_give(segmenter):
    """Sizes mixed, more than one batch."""
    sizes = [(40, 60), (40, 60), (33, 47), *[(40, 60)] * 11, (60, 40)]
    given = [np.roll(image_of(*size), shift, 1) for shift, size in enumerate(sizes)]
    for options in ({}, {"tta": True}, {"probabilities": True}):
        found = segmenter.predict(given, **options)
        assert [one.labels.shape for one in found] == sizes
        for one, image in zip(found, given, strict=True):
            alone = segmenter.predict(image, **options)
            assert (one.labels == alone.labels).mean() > 0.999
            if one.probabilities is not None:
                assert np.abs(one.probabilities - alone.probabilities).max() < 1e-5
    assert segmenter.predict([]) == [] and len(segmenter.predict((given[0],))) == 1
    assert len({one.labels.tobytes() for one in found}) == len(sizes)


def test_neighbors_of_one_size_are_together():
    small, large = np.zeros((4, 4, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    tensor = torch.zeros(3, 4, 4, dtype=torch.uint8)
    given = [small, small, large, small, tensor, tensor, *[small] * 7, large]
    groups = [len(group) for group, _ in batches(given, 3, 10**6)]
    assert groups == [2, 1, 1, 2, 3, 3, 1, 1]
    assert [len(group) for group, _ in batches([large] * 5, 9, 128)] == [2, 2, 1]
    assert [len(group) for group, _ in batches([large] * 2, 9, 1)] == [1, 1]


def test_a_batch_reaches_the_function_as_one():
    shapes = []

    def logits(x):
        shapes.append(x.shape)
        return np.stack([x[:, 0], x[:, 1]], 1)[:, :, ::8, ::8]

    predictor = Predictor(logits, Card(("a", "b"), ((0, 0, 0), (9, 9, 9))))
    predictor.predict([image_of(32, 32)] * 3 + [image_of(64, 32)])
    assert shapes == [(3, 3, 32, 32), (1, 3, 64, 32)]


def test_what_is_no_image_in_a_list_is_named(segmenter, tmp_path):
    with pytest.raises(CrissCrossError, match=r"^images\[1\]: an image array must be uint8 \(0\.\.255\), got float64$"):
        segmenter.predict([image_of(40, 60), np.zeros((4, 5))])
    with pytest.raises(CrissCrossError, match=r"^nowhere"):
        segmenter.predict([image_of(40, 60), "nowhere.png"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_network_is_left_as_it_was(dtype):
    network = small_segmenter().to(dtype).train()
    frozen = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for module in frozen:
        module.eval()
    modes = [module.training for module in network.modules()]
    kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    grads = [parameter.requires_grad for parameter in network.parameters()]
    assert True in modes and False in modes
    network.predict([image_of(40, 60)] * 2)
    with pytest.raises(CrissCrossError):
        network.predict(3)
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == grads
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == kept[name].dtype and tensor.device == kept[name].device
        assert torch.equal(tensor, kept[name]), name
