"""What the page of an instance run shows: average precision by class, and images with truth and finds."""

import numpy as np
import pytest
import torch
from instances_data import tiny, tree_of, write_coco

from crisscross.engine.task import Start
from crisscross.instances.annotations import open_coco_instances
from crisscross.instances.report import SHOWN, examples_of, report_fields
from crisscross.instances.result import Instances
from crisscross.instances.weights import build_network
from crisscross.report import Report, render

FACTS = {
    "box": {"AP": 0.25, "AP50": 0.5, "AP75": None, "classes": {"disc": 0.5, "bar": None}},
    "mask": {"AP": 0.2, "AP50": 0.4, "AP75": 0.1, "classes": {"disc": 0.4, "bar": None}},
}


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return open_coco_instances(write_coco(tmp_path_factory.mktemp("coco"), tree_of(7))).split("val")


def test_the_page_shows_precision_and_images(split, monkeypatch):
    torch.manual_seed(0)
    network = build_network(tiny(), Start(resume=True)).network.eval()
    masks = np.zeros((2, 64, 96), bool)
    masks[0, 10:20, 10:30] = masks[1, 40:50, 50:60] = True
    boxes = np.array([[10, 10, 30, 20], [50, 40, 60, 50]], np.float32)
    found = Instances(boxes, np.array([0.9, 0.4], np.float32), np.array([0, 1]), masks, ("disc", "bar"))
    monkeypatch.setattr(type(network), "predict", lambda self, image: found)
    fields = report_fields(network, split, FACTS, 0.5)
    # A class without instances is left out.
    assert (fields["classes"], fields["iou"], fields["accuracy"]) == (["disc"], [0.4], [0.5])
    assert ("mask AP", "0.200") in fields["headline"] and ("box AP75", "-") in fields["headline"]
    captions, images = zip(*fields["rows"][0].panels, strict=True)
    assert captions == ("image", "truth", "prediction, 1 found")
    image, truth, prediction = images
    assert image.shape == truth.shape == prediction.shape == (64, 96, 3)
    # The disc is drawn where it lies, and the find of a low score is not.
    assert (truth[30, 24] != image[30, 24]).any() and (prediction[15, 20] != image[15, 20]).any()
    assert (prediction[45, 55] == image[45, 55]).all()
    page = render(Report(title="x", summary="", **fields))
    assert "Each bar is the mask AP of a class, the notch its box AP." in page and page.count("<img") == 3 * SHOWN
    assert "disc: mask AP 0.400, box AP 0.500" in page


def test_images_are_spread_over_those_with_instances(split):
    # The last of the seven has none.
    assert [image.name for image in examples_of(split)] == ["p0", "p1", "p3", "p4"]
