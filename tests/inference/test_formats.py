"""Label maps in other tools' formats, read back by those tools or by definitions of their own."""

import csv
import io

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from crisscross.inference import formats

CLASSES = ("road", "sky", 'tree, "old"', "car")
PALETTE = ((128, 64, 128), (70, 130, 180), (0, 128, 0), (255, 0, 0))


def maps() -> list[np.ndarray]:
    """Noise (every way in which pixels can touch), blobs, lines, one class, one pixel, and ignored pixels."""
    rng = np.random.default_rng(4)
    noise = [rng.integers(0, 4, shape).astype(np.uint8) for shape in ((1, 1), (1, 9), (9, 1), (13, 17), (40, 31))]
    rough = rng.integers(0, 4, (6, 7)).astype(np.uint8).repeat(5, 0).repeat(6, 1)
    ignored = np.where(rng.random((20, 23)) < 0.3, 255, rng.integers(0, 2, (20, 23))).astype(np.uint8)
    nested = np.zeros((15, 15), np.uint8)
    for inset in range(1, 7):
        nested[inset:-inset, inset:-inset] = inset % 3
    return [*noise, rough, ignored, nested, np.full((5, 8), 3, np.uint8)]


def inside(ring: list[list[int]], height: int, width: int) -> np.ndarray:
    """Whether the center of each pixel lies inside a ring: an odd number of its edges is to the right."""
    y, x = np.mgrid[:height, :width] + 0.5
    odd = np.zeros((height, width), bool)
    for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        assert x0 == x1 or y0 == y1
        if x0 == x1:
            odd ^= (x < x0) & (y > min(y0, y1)) & (y < max(y0, y1))
    return odd


def area(ring: list[list[int]]) -> float:
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True))) / 2


@pytest.mark.parametrize("labels", maps(), ids=lambda labels: str(labels.shape))
def test_polygons_fill_to_the_label_map(labels):
    import scipy.ndimage

    found, times = np.full(labels.shape, 255, np.uint8), np.zeros(labels.shape, int)
    regions = formats.polygons(labels, CLASSES)
    for region in regions:
        mask = inside(region["polygon"], *labels.shape)
        for hole in region["holes"]:
            hollow = inside(hole, *labels.shape)
            assert (mask[hollow]).all()
            mask &= ~hollow
        assert area(region["polygon"]) - sum(map(area, region["holes"])) == mask.sum() > 0
        assert region["name"] == CLASSES[region["class"]]
        found[mask] = region["class"]
        times += mask
    assert np.array_equal(found, labels)
    assert np.array_equal(times, labels != 255)
    assert len(regions) == sum(scipy.ndimage.label(labels == number)[1] for number in range(4))


def test_a_polygon_by_hand():
    labels = np.array([[0, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 1]])
    ring, right, middle = formats.polygons(labels, CLASSES)
    assert ring["class"] == 0 and ring["name"] == "road"
    assert sorted(ring["polygon"]) == [[0, 0], [0, 3], [3, 0], [3, 3]]
    assert [sorted(hole) for hole in ring["holes"]] == [[[1, 1], [1, 2], [2, 1], [2, 2]]]
    shapes = sorted(sorted(region["polygon"]) for region in (right, middle))
    assert shapes == [[[1, 1], [1, 2], [2, 1], [2, 2]], [[3, 0], [3, 3], [4, 0], [4, 3]]]


@pytest.mark.parametrize("labels", maps(), ids=lambda labels: str(labels.shape))
def test_run_lengths_are_those_of_pycocotools(labels):
    for number in (*range(4), 255):
        mask = labels == number
        found = formats.run_lengths(mask)
        expected = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        assert found == {"size": list(mask.shape), "counts": expected["counts"].decode()}
        assert np.array_equal(coco_mask.decode(found), mask)


def test_long_runs_and_their_differences():
    mask = np.zeros((3000, 1400), bool)
    mask[5:2995, 700:] = True
    mask[:, -3] = False
    found = formats.run_lengths(mask)
    assert np.array_equal(coco_mask.decode(found), mask)
    assert found["counts"].encode() == coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]


def test_coco_annotations():
    labels = np.array([[0, 255, 2], [2, 255, 2], [7, 255, 255]], np.uint8)
    first, second = formats.coco_annotations(labels, 4, image_id=5, first_id=10)
    assert (first["id"], first["image_id"], first["category_id"], first["area"], first["iscrowd"]) == (10, 5, 1, 1, 0)
    assert (second["id"], second["category_id"], second["area"]) == (11, 3, 3)
    assert first["bbox"] == [0, 0, 1, 1] and second["bbox"] == [0, 0, 3, 2]
    assert second["bbox"] == coco_mask.toBbox(second["segmentation"]).tolist()
    assert np.array_equal(coco_mask.decode(second["segmentation"]), labels == 2)
    assert formats.coco_categories(CLASSES)[2] == {"id": 3, "name": 'tree, "old"', "supercategory": ""}
    assert formats.coco_image(5, "a.png", labels[:2]) == {"id": 5, "file_name": "a.png", "width": 3, "height": 2}


def test_png_bytes():
    labels = np.array([[0, 1, 2], [3, 255, 9]], np.int64)
    index = Image.open(io.BytesIO(formats.index_png(labels, PALETTE)))
    assert np.array_equal(np.asarray(index), labels)
    assert index.convert("RGB").getpixel((1, 0)) == PALETTE[1]
    color = np.asarray(Image.open(io.BytesIO(formats.color_png(labels, PALETTE, ignore=2))))
    assert color.tolist() == [[list(PALETTE[0]), list(PALETTE[1]), [0] * 3], [list(PALETTE[3]), [0] * 3, [0] * 3]]
    with pytest.raises(ValueError, match=r"0\.\.255, got -1\.\.255"):
        formats.index_png(labels - (labels == 0))


def test_fractions_of_many_rows(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 6, (97, 31)).astype(np.uint8)
    monkeypatch.setattr(formats, "PIXELS", 310)
    expected = [(labels == number).mean() for number in range(4)]
    assert np.allclose(formats.class_fractions(labels, 4), expected, atol=0)
    assert formats.class_fractions(labels[:0], 4).tolist() == [0, 0, 0, 0]


def test_fractions_and_csv():
    labels = np.array([[0, 0, 2, 2], [2, 255, 1, 9]], np.uint8)
    fractions = formats.class_fractions(labels, 4)
    assert fractions.tolist() == [2 / 8, 1 / 8, 3 / 8, 0]
    assert formats.class_fractions(labels, 4, ignore=2).tolist() == [2 / 8, 1 / 8, 0, 0]
    text = formats.csv_text([["image", *CLASSES], formats.csv_row("a, b.jpg", fractions)])
    assert list(csv.reader(io.StringIO(text))) == [
        ["image", *CLASSES],
        ["a, b.jpg", "0.250000", "0.125000", "0.375000", "0.000000"],
    ]


@pytest.mark.parametrize("labels", [np.zeros((2, 2)), np.zeros((1, 2, 2), int)])
def test_what_is_no_label_map(labels):
    with pytest.raises((TypeError, ValueError), match=r"labels must be (integers|\[H, W\])"):
        formats.polygons(labels, CLASSES)
