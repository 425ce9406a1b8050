"""What a detailed evaluation counts beside its scores, and the page that shows it."""

import json
import types

import numpy as np
import pytest
import torch
from networks import narrow
from PIL import Image
from small_data import write_folder

from crisscross.config import DataConfig, Experiment, InferenceConfig, ModelConfig, PreprocessConfig
from crisscross.data import open_folder
from crisscross.data.palette import default_palette
from crisscross.engine.semantic import detail as detail_module
from crisscross.engine.semantic import labeling
from crisscross.engine.semantic.detail import SHOWN, Detail, RankedImage
from crisscross.engine.semantic.evaluate import evaluate
from crisscross.engine.semantic.report import report_fields
from crisscross.engine.semantic.result import as_result
from crisscross.metrics import boundary_counts
from crisscross.metrics.overlap import iou_of, overlap_counts
from crisscross.models import Segmenter
from crisscross.report import Report, render

IMAGES = 10


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = write_folder(tmp_path_factory.mktemp("data") / "small", {"train": 1, "val": IMAGES}, 40, 56)
    return open_folder(folder)


def network_for(dataset, **inference):
    torch.manual_seed(0)
    model = ModelConfig("test_resnet", 8, **narrow(16, 0))
    data = DataConfig(name="folder", classes=dataset.classes, palette=default_palette(dataset.classes))
    config = InferenceConfig(ratios=(0.5, 1.0), **inference)
    network = Segmenter(Experiment("x", model, data, PreprocessConfig(scale=(70, 50)), inference=config))
    torch.nn.init.normal_(network.head.classify.weight)
    return network.eval()


def detailed(network, dataset, split="val", **options):
    found = evaluate(network, dataset, split, detailed=True, **options)
    return as_result(found, dataset.classes)


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("inference", [{}, {"mode": "slide", "window": (32, 48), "stride": (16, 24)}])
def test_everything_follows_from_labels_and_probabilities(dataset, tta, inference):
    network = network_for(dataset, **inference)
    facts = detailed(network, dataset, tta=tta).facts
    boundaries, right, sure = np.zeros((3, 3), int), [], []
    for pair in dataset.split("val"):
        found, truth = network.predict(pair.image, probabilities=True, tta=tta), np.asarray(Image.open(pair.mask))
        boundaries += boundary_counts(found.labels, truth, 3)
        valid = truth != 255
        right += (found.labels == truth)[valid].tolist()
        sure += found.probabilities.max(0)[valid].tolist()
    assert [*facts["boundary_iou"].values()] == pytest.approx(iou_of(boundaries))
    assert facts["boundary_miou"] == pytest.approx(iou_of(boundaries).mean())
    sure, right, ece = np.array(sure), np.array(right), 0.0
    for number in range(15):
        inside = (sure > number / 15) & (sure <= (number + 1) / 15)
        ece += abs(right[inside].sum() - sure[inside].sum()) / len(sure)
    assert ece > 0.01 and facts["calibration"]["ece"] == pytest.approx(ece, abs=1e-5)
    assert sum(facts["calibration"]["pixels"]) == len(sure)
    low, high = facts["intervals"]["miou"]
    assert low < facts["miou"] < high
    ends = facts["intervals"]["boundary_iou"]["door"]
    assert ends[0] < facts["boundary_iou"]["door"] < ends[1]


def test_without_a_page_no_probability_is_computed(dataset, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("computed")

    monkeypatch.setattr(labeling, "confidences", refuse)
    monkeypatch.setattr(detail_module, "boundary_counts", refuse)
    found = evaluate(network_for(dataset), dataset, "val")
    assert found.detail is None and "calibration" not in as_result(found, dataset.classes).facts
    with pytest.raises(AssertionError, match="computed"):
        detailed(network_for(dataset), dataset)


def test_half_precision_counts_the_same_pixels(dataset):
    network = network_for(dataset)
    wanted = detailed(network, dataset).facts
    found = detailed(network.half(), dataset).facts
    assert sum(found["calibration"]["pixels"]) == sum(wanted["calibration"]["pixels"])
    assert found["calibration"]["ece"] == pytest.approx(wanted["calibration"]["ece"], abs=0.01)


def ranked(*scores):
    small = np.zeros((2, 2), np.uint8)
    return [RankedImage(score, f"{score}", 1 - score, small, small) for score in scores]


def test_only_the_ends_are_kept(dataset):
    detail = Detail(dataset)
    scores = np.random.default_rng(0).permutation(40) / 40
    for image in ranked(*scores.tolist()):
        detail.rank([image])
        assert len(detail.ranked) <= 2 * SHOWN
    wanted = sorted(scores)
    assert [image.iou for image in detail.ranked] == [*wanted[:SHOWN], *wanted[-SHOWN:]]


def test_several_processes_find_what_one_does(dataset, monkeypatch):
    network = network_for(dataset)
    alone = evaluate(network, dataset, "val", detailed=True).detail
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda counts: None)
    gathered = []
    for index in range(2):
        state = types.SimpleNamespace(
            process_index=index, num_processes=2, is_main_process=index == 0, device=torch.device("cpu")
        )
        monkeypatch.setattr("crisscross.engine.semantic.evaluate.PartialState", lambda state=state: state)

        def gather(found):
            gathered.extend(one for one in found if isinstance(one, Detail))
            return gathered if isinstance(found[0], Detail) else found

        monkeypatch.setattr("crisscross.engine.semantic.evaluate.gather_object", gather)
        together = evaluate(network, dataset, "val", detailed=True).detail
    assert np.array_equal(np.sum(together.overlaps, 0), np.sum(alone.overlaps, 0))
    assert [image.name for image in together.ranked] == [image.name for image in alone.ranked]
    assert len(together.overlaps) == IMAGES


def test_the_page_shows_worst_and_best_with_the_labels_of_the_evaluation(dataset):
    network = network_for(dataset)
    result = detailed(network, dataset)
    fields = report_fields(network, dataset, "val", result)
    scores = sorted((iou, name) for name, iou in result.facts["image_iou"].items())
    wanted = [f"worst: {name}, mIoU {iou:.3f}" for iou, name in scores[:SHOWN]]
    wanted += [f"best: {name}, mIoU {iou:.3f}" for iou, name in scores[::-1][:SHOWN]]
    assert [row.name for row in fields["rows"]] == wanted
    worst = fields["rows"][0]
    labels = network.predict(dataset.root / "images" / f"{scores[0][1]}.png").labels
    assert np.array_equal(worst.prediction, labels)
    valid = worst.truth != 255
    assert worst.wrong == pytest.approx((labels != worst.truth)[valid].mean())
    page = render(Report(title="x", summary="", **fields))
    low, high = result.facts["intervals"]["miou"]
    assert f"{low:.3f}\u00a0to\u00a0{high:.3f}" in page and "1000 sets of as many images" in page
    for heading in ("Classes", "Confusion", "Calibration", "Images"):
        assert f"<h2>{heading}</h2>" in page


def test_one_image_gives_no_interval(tmp_path):
    dataset = open_folder(write_folder(tmp_path / "one", {"train": 1, "val": 1}, 40, 56))
    network = network_for(dataset)
    result = detailed(network, dataset)
    assert result.facts["intervals"] is None and json.dumps(result.facts)
    page = render(Report(title="x", summary="", **report_fields(network, dataset, "val", result)))
    assert "One image alone gives no intervals." in page and "95 % interval 0" not in page


def test_an_image_that_is_ignored_and_a_class_that_never_occurs(tmp_path):
    folder = write_folder(tmp_path / "odd", {"train": 1, "val": 3}, 40, 56)
    for number in range(3):
        mask = np.full((40, 56), 255, np.uint8)
        if number:
            mask[:, 20 * number :] = 0
        Image.fromarray(mask).save(folder / "masks" / f"val_{number}.png")
    dataset = open_folder(folder)
    network = network_for(dataset)
    # Class 1 is neither in the masks nor in the labels.
    with torch.no_grad():
        network.head.classify.bias[1] = -1e4
    result = detailed(network, dataset)
    facts = result.facts
    assert facts["image_iou"]["val_0"] is None and len(result.detail.ranked) == 2
    assert facts["boundary_iou"]["wall"] is None and facts["intervals"]["iou"]["wall"] is None
    assert facts["intervals"]["iou"]["floor"] is not None and json.dumps(facts, allow_nan=False)
    page = render(Report(title="x", summary="", **report_fields(network, dataset, "val", result)))
    assert "absent" in page and ">nan<" not in page and "val_0" not in page


def test_nothing_but_ignored_pixels(tmp_path):
    folder = write_folder(tmp_path / "void", {"train": 1, "val": 2}, 40, 56)
    for number in range(2):
        Image.fromarray(np.full((40, 56), 255, np.uint8)).save(folder / "masks" / f"val_{number}.png")
    dataset = open_folder(folder)
    network = network_for(dataset)
    result = detailed(network, dataset)
    assert result.miou is None and result.facts["calibration"]["ece"] is None
    assert result.facts["intervals"]["miou"] is None and json.dumps(result.facts, allow_nan=False)
    page = render(Report(title="x", summary="", **report_fields(network, dataset, "val", result)))
    assert "<h2>Calibration</h2>" not in page and "nan" not in page


def test_counts_of_an_image_are_those_of_its_matrix():
    matrix = np.array([[5, 1, 0], [2, 7, 0], [0, 0, 0]])
    assert overlap_counts(matrix).tolist() == [[5, 7, 0], [6, 9, 0], [7, 8, 0]]
