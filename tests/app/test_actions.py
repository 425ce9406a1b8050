"""What the page does, without a browser."""

import re
import zipfile
from fractions import Fraction
from threading import Thread

import numpy as np
import pytest
from coarse_networks import image_of, small_segmenter
from networks import narrow
from PIL import Image
from waiting import wait_until

import crisscross
from crisscross.app import open_networks
from crisscross.app.actions import PIXELS, Actions, reduced
from crisscross.app.page import answered
from crisscross.config import DataConfig, Experiment, ModelConfig
from crisscross.errors import CrissCrossError
from crisscross.inference import Predictor
from crisscross.models import Segmenter
from crisscross.video import VideoFrame, VideoReader, VideoWriter

IMAGE = image_of(40, 64)


def exported(segmenter):
    """As of an exported file: a predictor, and no weights."""
    found = segmenter.predictor
    return Predictor(found.stages, found.card, found.place, found.running)


@pytest.fixture(scope="module")
def segmenter():
    return small_segmenter()


def test_all_networks_are_looked_at_before_one_is_downloaded(monkeypatch):
    monkeypatch.setenv("CRISSCROSS_OFFLINE", "1")
    with pytest.raises(CrissCrossError) as caught:
        open_networks(["ccnet_r50-d8_4xb2-40k_cityscapes-512x1024", "maskrcnn_r50_fpn_rcca_coco"])
    assert str(caught.value) == (
        "maskrcnn_r50_fpn_rcca_coco is of the task instances; app takes networks that label pixels"
    )


@pytest.fixture
def actions(segmenter, tmp_path):
    return Actions(open_networks([segmenter, exported(segmenter)]), tmp_path)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a street.png"
    Image.fromarray(IMAGE).save(path)
    return path


def test_an_image_is_labeled_by_each_network(actions, segmenter, file):
    note, found, x, y, images, legends = actions.label(str(file), 0.5)
    expected = segmenter.predictor.predict(IMAGE)
    assert (note, x, y, found.name) == ("", 32, 20, "a street")
    assert np.array_equal(found.image, IMAGE)
    assert all(np.array_equal(one.labels, expected.labels) for one in found.predictions)
    assert len(images) == len(legends) == 2 and images[0].width == 1024
    largest = max(expected.fractions(), key=expected.fractions().get)
    assert re.search(rf"</i>{largest} <b>\d+%</b>", legends[0])


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n and nothing more"])
def test_a_bad_file_is_one_line_with_its_name_alone(actions, tmp_path, content):
    path = tmp_path / "holiday.png"
    path.write_bytes(content)
    with pytest.raises(CrissCrossError, match=r"^holiday\.png: ") as caught:
        actions.label(str(path), 0.5)
    assert str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)


def test_an_image_that_is_far_too_large_is_not_decoded(actions, tmp_path, monkeypatch):
    monkeypatch.setattr("crisscross.app.actions.MOST_PIXELS", IMAGE[..., 0].size - 1)
    path = tmp_path / "large.png"
    Image.fromarray(IMAGE).save(path)
    with pytest.raises(CrissCrossError, match=r"^large\.png: .*pixels"):
        actions.label(str(path), 0.5)


def test_a_large_image_is_reduced_and_the_page_says_so():
    image = np.zeros((1500, 3000, 3), np.uint8)
    image[:, 1500:] = 200
    small, note = reduced(image)
    height, width = small.shape[:2]
    assert PIXELS * 0.99 < height * width <= PIXELS and abs(width / height - 2) < 0.01
    assert small[:, : width // 2 - 2].max() == 0 and small[:, width // 2 + 2 :].min() == 200
    assert note.startswith(f"Reduced to {width} × {height} pixels from 3000 × 1500;")
    assert reduced(small) == (small, "")


def test_of_a_pixel_its_classes_and_where_it_looks(actions, segmenter, file):
    found = actions.label(str(file), 0.5)[1]
    with_weights, without_weights = actions.explain(found, (50, 7))
    explanation = crisscross.explain(segmenter, IMAGE, (50, 7))
    (name, value), *_ = explanation.top(3)
    off = explanation.top(3, without=True)[0][1]
    assert abs(value - off) > 0.001
    # With attention and without it, each with its bar.
    shown = re.findall(r'<i style="width:([\d.]+%)"></i></td><td>([\d.]+%)', with_weights)
    assert shown[0] == (f"{value:.1%}",) * 2 and shown[3] == (f"{off:.1%}",) * 2
    assert f"<h3>{name} <small>at 50, 7" in with_weights
    captions = re.findall("<figcaption>(.*?)</figcaption>", with_weights)
    assert [caption.split(":")[0] for caption in captions] == [
        "R = 1",
        "R = 2",
        "labels with attention",
        "labels with attention off",
    ]
    assert with_weights.count('<i style="left:78.91%;top:18.75%">') == 4
    # An exported file knows the class, and says what is missing.
    assert f"<h3>{name} <small>at 50, 7" in without_weights and f"{value:.1%}" in without_weights
    # Which network says it.
    names = [re.match('<p class="network">(.*?)</p>', text)[1] for text in (with_weights, without_weights)]
    assert names == [network.name for network in actions.networks]
    assert "is an exported file" in without_weights and "weights are needed" in without_weights
    assert "<figure>" not in without_weights


def test_a_network_without_attention_says_so(file, tmp_path):
    model = ModelConfig("test_resnet", 8, **narrow(16, 8, recurrence=0))
    network = Segmenter(Experiment(model=model, data=DataConfig(classes=("a <b>", "c")))).eval()
    actions = Actions(open_networks([network]), tmp_path)
    (text,) = actions.explain(actions.label(str(file), 0.5)[1], (0, 0))
    assert "Segmenter has no criss-cross attention" in text and "<figure>" not in text
    # Names of classes are text.
    assert "a &lt;b&gt;" in text and "<b>" not in text


@pytest.mark.parametrize("at", [(64, 0), (0, 40), (-1, 0), (None, 3), (3, None)])
def test_a_point_outside_of_the_image_is_one_line(actions, file, at):
    found = actions.label(str(file), 0.5)[1]
    with pytest.raises(CrissCrossError, match=r"is no pixel of the image: x is 0 to 63, y is 0 to 39$"):
        actions.explain(found, at)
    alert, *others = answered(lambda: actions.explain(found, at), 3)
    assert 'class="message alert" role="alert"' in alert and len(others) == 2


def test_without_an_image_there_is_nothing_to_explain_or_download(actions):
    for act in (lambda: actions.explain(None, (0, 0)), lambda: actions.download(None, ["png"])):
        with pytest.raises(CrissCrossError, match="choose an image first"):
            act()


def test_masks_are_those_that_predict_writes(actions, segmenter, file, tmp_path):
    found = actions.label(str(file), 0.5)[1]
    formats = ["csv", "png", "polygons", "coco", "rle"]
    crisscross.predict(segmenter, file, tmp_path / "predicted", formats=formats, progress=False)
    expected = {path.relative_to(tmp_path / "predicted").as_posix(): path.read_bytes() for path in
                (tmp_path / "predicted").rglob("*") if path.is_file()}  # fmt: skip
    assert len(expected) == 8
    with zipfile.ZipFile(actions.download(found, formats)) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    first, second = (network.name for network in actions.networks)
    assert files == {f"{name}/{inner}": content for name in (first, second) for inner, content in expected.items()}
    with zipfile.ZipFile(actions.download(found, ["csv"])) as archive:
        assert {name.partition("/")[2] for name in archive.namelist()} - {""} == {"classes.json", "fractions.csv"}
    with pytest.raises(CrissCrossError, match="choose at least one format"):
        actions.download(found, [])


def test_the_ring_is_drawn_around_the_pixel(actions, file):
    found = actions.label(str(file), 0.5)[1]
    plain, marked = (np.asarray(actions.draw(found, 0.5, at)[0], int) for at in (None, (10, 30)))
    rows, columns = np.nonzero(np.abs(marked - plain).sum(-1))
    # 64 pixels are 1024 wide.
    assert abs(rows.mean() - 30.5 * 16) < 1 and abs(columns.mean() - 10.5 * 16) < 1
    without, colors = (np.asarray(actions.draw(found, opacity, None)[0]) for opacity in (0, 1))
    palette = np.array(found.predictions[0].card.palette)
    in_palette = [(one[..., None, :] == palette).all(-1).any(-1).mean() for one in (without, colors)]
    assert in_palette[0] < 0.1 and in_palette[1] == 1


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, ".mp4", Fraction(1, 10), Fraction(10)) as writer:
        for number in range(4):
            writer.write(VideoFrame(image_of(48, 64, number), number, 1, Fraction(1)))
    return path


def test_a_video_is_labeled(actions, clip):
    path, told, name = clip, [], actions.networks[1].name
    note, out = actions.label_video(str(path), name, lambda done, expected: told.append((done, expected)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)] and note.startswith("4 frames")
    with VideoReader(out) as reader:
        assert [frame.image.shape for frame in reader] == [(48, 64, 3)] * 4
    path.write_bytes(b"no video")
    with pytest.raises(CrissCrossError, match=r"^clip\.mp4: "):
        actions.label_video(str(path), name, print)
    with pytest.raises(CrissCrossError, match="choose a video first"):
        actions.label_video(None, name, print)


def test_the_end_waits_for_what_computes_and_lets_nothing_begin(actions, clip, file):
    found, frames = actions.label(str(file), 0.5)[1], []

    def end(done, expected):
        frames.append(done)
        ending.start()
        wait_until(lambda: actions.stopped)
        assert ending.is_alive()

    ending = Thread(target=actions.stop)
    with pytest.raises(CrissCrossError, match="the app was stopped"):
        actions.label_video(str(clip), actions.networks[0].name, end)
    ending.join()
    assert frames == [1]
    with pytest.raises(CrissCrossError, match="the app was stopped"):
        actions.explain(found, (0, 0))
