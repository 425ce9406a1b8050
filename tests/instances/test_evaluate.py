"""Average precision of instances by hand, and instances drawn."""

import json

import numpy as np
import pytest
import torch
from instances_data import HEIGHT, TINY, WIDTH, annotation, run_lengths, tree_of, write_coco

from crisscross.config import override
from crisscross.data.files.coco_masks import decode, encode
from crisscross.errors import CrissCrossError
from crisscross.instances.annotations import open_coco_instances
from crisscross.instances.config import InstanceExperiment
from crisscross.instances.draw import draw, instance_color, outline
from crisscross.instances.evaluate import as_coco, average_precision, coco_results, evaluate_instances
from crisscross.instances.network import InstanceSegmenter
from crisscross.instances.result import Instances

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(0)
    words = ["data.classes=[disc, bar]", "data.categories=[3, 17]"]
    return InstanceSegmenter(override(InstanceExperiment(), [*TINY, *words])).eval()


def block(top, left, height, width):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top : top + height, left : left + width] = 1
    return mask


def rle(mask):
    return {"size": [HEIGHT, WIDTH], "counts": run_lengths(mask)}


def scored(tmp_path, annotations, found, kind="segm"):
    """AP of found (image, category, mask, score, box) against annotations."""
    tree = tree_of()
    tree["annotations"] = annotations
    split = open_coco_instances(write_coco(tmp_path, tree)).split("val")
    results = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score, "segmentation": encode(mask)}
        for image, category, mask, score, box in found
    ]
    return average_precision(as_coco(split.as_coco(), split), results, split, kind)


def test_average_precision_by_hand(tmp_path):
    """One class, two instances. The best find is exact, the second half of one, of IoU 0.6, the last finds nothing.

    Sorted by score, at overlaps 0.5, 0.55 and 0.6 both are found with precision 1, so AP is 1; at the other seven
    overlaps half is found, which 51 of 101 recall points see: 51 / 101.
    """
    annotations = [
        annotation(1, 100, 3, rle(block(5, 5, 10, 10)), [5, 5, 10, 10]),
        annotation(2, 100, 3, rle(block(30, 10, 10, 20)), [10, 30, 20, 10]),
    ]
    # 12 of 20 columns: intersection over union 0.6.
    half = block(30, 14, 10, 12)
    found = [
        (100, 3, block(5, 5, 10, 10), 0.9, [5, 5, 10, 10]),
        (100, 3, half, 0.8, [14, 30, 12, 10]),
        (102, 3, half, 0.1, [14, 30, 12, 10]),
    ]
    wanted = (3 + 7 * 51 / 101) / 10
    for kind in ("segm", "bbox"):
        result = scored(tmp_path, annotations, found, kind)
        assert result.summary["AP"] == pytest.approx(wanted, abs=1e-6)
        assert result.summary["AP50"] == pytest.approx(1) and result.summary["AP75"] == pytest.approx(51 / 101)
        assert result.summary["APl"] is None
        assert result.classes == {"disc": pytest.approx(wanted, abs=1e-6), "bar": None}


def test_crowds_are_ignored_and_empty_images_count(tmp_path):
    exact = block(5, 5, 20, 20)
    annotations = [
        annotation(1, 100, 3, rle(exact), [5, 5, 20, 20]),
        annotation(2, 100, 3, rle(block(30, 40, 30, 50)), [40, 30, 50, 30], iscrowd=1),
    ]
    right = (100, 3, exact, 0.5, [5, 5, 20, 20])
    in_crowd = (100, 3, block(32, 42, 10, 10), 0.9, [42, 32, 10, 10])
    beside = (103, 3, block(32, 42, 10, 10), 0.9, [42, 32, 10, 10])
    assert scored(tmp_path, annotations, [right, in_crowd]).summary["AP"] == pytest.approx(1)
    # A find in the image without annotations is a wrong one, and better than the right one: precision 1/2.
    assert scored(tmp_path, annotations, [right, beside]).summary["AP"] == pytest.approx(0.5)
    assert scored(tmp_path, annotations, []).summary["AP"] == 0
    # Areas are those of masks: a find beyond 32 x 32 in its box alone is still a small one.
    thin = block(5, 5, 2, 60)
    assert scored(tmp_path, annotations[:1], [right, (101, 3, thin, 0.9, [0, 0, 90, 60])]).summary[
        "APs"
    ] == pytest.approx(0.5)


def test_results_files_give_their_scores_to_cocos_own_tools(tmp_path):
    """The find of another image is small as a mask and large as a box: by size the two scores differ."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    exact, thin = block(5, 5, 20, 20), block(5, 5, 2, 60)
    annotations = [annotation(1, 100, 3, rle(exact), [5, 5, 20, 20])]
    found = [(100, 3, exact, 0.5, [5, 5, 20, 20]), (101, 3, thin, 0.9, [0, 0, 90, 60])]
    results = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score, "segmentation": encode(mask)}
        for image, category, mask, score, box in found
    ]
    shapes = {"bbox": "bbox", "segm": "segmentation"}
    for kind, wanted in (("bbox", 1.0), ("segm", 0.5)):
        entries = coco_results(results, kind)
        assert [set(entry) for entry in entries] == [{"image_id", "category_id", "score", shapes[kind]}] * 2
        ours = scored(tmp_path / kind, annotations, found, kind).summary
        (tmp_path / f"{kind}.json").write_text(json.dumps(entries))
        truth = COCO(str(tmp_path / kind / "annotations" / "instances_val2017.json"))
        theirs = COCOeval(truth, truth.loadRes(str(tmp_path / f"{kind}.json")), kind)
        theirs.evaluate(), theirs.accumulate(), theirs.summarize()
        assert theirs.stats[3] == pytest.approx(wanted)
        assert ours["APs"] == pytest.approx(wanted)
        assert ours["AP"] == pytest.approx(theirs.stats[0])


def test_damaged_run_lengths_are_named_in_evaluation(tmp_path):
    damaged = {"size": [HEIGHT, WIDTH], "counts": "P0"}
    with pytest.raises(CrissCrossError, match=r"instances_val2017\.json: annotation 7: damaged run lengths"):
        scored(tmp_path, [annotation(7, 100, 3, damaged, [5, 5, 20, 20], iscrowd=1)], [])


def test_every_instance_found_exactly_scores_one(segmenter, tmp_path, monkeypatch):
    split = open_coco_instances(write_coco(tmp_path)).split("val")
    truth = {image.name: split.annotations[image.number] for image in split.images}
    images = iter(split.images)

    def know(pixels):
        entries = truth[next(images).name]
        boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in (e["bbox"] for e in entries)], np.float32)
        masks = np.array([decode(e["segmentation"], HEIGHT, WIDTH) for e in entries], bool)
        labels = np.array([(3, 17).index(e["category_id"]) for e in entries], np.int64)
        return Instances(
            boxes.reshape(-1, 4), np.ones(len(entries), np.float32), labels, masks.reshape(-1, HEIGHT, WIDTH), ()
        )

    monkeypatch.setattr(segmenter, "predict", know)
    result = evaluate_instances(segmenter, split)
    assert result.mask.summary["AP"] == pytest.approx(1) and result.box.summary["AP"] == pytest.approx(1)
    assert result.mask.classes == {"disc": pytest.approx(1), "bar": pytest.approx(1)} and len(result.results) == 6


def test_classes_of_other_annotations_are_refused(segmenter, tmp_path):
    tree = tree_of()
    tree["categories"][0] = {"id": 3, "name": "dish"}
    split = open_coco_instances(write_coco(tmp_path, tree)).split("val")
    with pytest.raises(CrissCrossError, match=r"category 3 is 'dish', in the network 'disc'"):
        evaluate_instances(segmenter, split)


def test_drawing_paints_masks_and_boxes_and_nothing_else():
    image = np.full((60, 80, 3), 100, np.uint8)
    masks = np.zeros((2, 60, 80), bool)
    masks[0, 30:50, 10:30], masks[1, 30:50, 50:70] = True, True
    boxes = np.array([[10, 30, 30, 50], [50, 30, 70, 50]], np.float32)
    found = Instances(boxes, np.array([0.9, 0.8], np.float32), np.array([0, 1]), masks, ("disc", "bar"))
    drawn = np.asarray(draw(image, found))
    assert drawn.shape == image.shape and (drawn[55:] == 100).all() and (drawn[:10] == 100).all()
    for number, x in ((0, 20), (1, 60)):
        wanted = 100 * 0.55 + 0.45 * np.array(instance_color(number))
        assert np.abs(drawn[40, x] - wanted).max() <= 1
    near = [np.abs(np.subtract(instance_color(n), instance_color(n + 1))).max() for n in range(30)]
    assert min(near) > 60
    ring = outline(masks[0])
    assert ring.sum() == 4 * 20 - 4 and not ring[31:49, 11:29].any()
    masks[0] = True
    over = np.asarray(draw(image, Instances(boxes, found.scores, found.labels, masks, found.classes)))
    # The smaller mask stays visible within a larger, better one.
    assert np.abs(over[40, 60].astype(int) - over[40, 40]).max() > 30
    nothing = Instances(boxes[:0], np.zeros(0, np.float32), np.zeros(0, np.int64), masks[:0], ())
    assert (np.asarray(draw(image, nothing)) == image).all()
