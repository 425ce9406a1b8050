"""Evaluation: the counts of a plain loop, three things at once, clean ends, and what the command prints and writes."""

import json
import os
import signal
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import narrow
from PIL import Image
from published_data import draw_camvid
from small_data import draw_image, draw_labels, write_folder
from waiting import HANGS, wait_until

import crisscross
from crisscross.cli import main
from crisscross.config import DataConfig, Experiment, InferenceConfig, ModelConfig, PreprocessConfig
from crisscross.data import DataSet, open_folder
from crisscross.data.palette import default_palette
from crisscross.data.samples import workers as processes
from crisscross.data.sets.camvid import CLASSES as CAMVID
from crisscross.engine.semantic import evaluate as evaluation
from crisscross.engine.semantic import task as semantic_task
from crisscross.engine.semantic.evaluate import WAITING, Evaluation, check_classes, evaluate
from crisscross.engine.semantic.labeling import labeled_pairs
from crisscross.engine.semantic.result import as_result
from crisscross.errors import CrissCrossError
from crisscross.files import write_atomically
from crisscross.inference import Card, Predictor
from crisscross.metrics import ConfusionMatrix, scores
from crisscross.models import Segmenter

IMAGES = 7


def predictor_that_says(labels_of, classes):
    """A predictor whose labels are `labels_of` of the red plane [H, W]."""

    def logits_of(x):
        return np.eye(len(classes), dtype=np.float32)[labels_of(x[0, 0])].transpose(2, 0, 1)[None]

    return Predictor(logits_of, Card(tuple(classes), default_palette(classes)))


def all_ground(red):
    return np.zeros(red.shape, np.uint8)


@pytest.mark.parametrize(
    ("network", "data", "fits"),
    [
        (("class water", "class land"), ("class land", "class water"), False),
        (("class 1", "class 0"), ("a", "b"), False),
        (("class 0", "b"), ("a", "b"), False),
        (("class 0", "class 1"), ("a", "b"), True),
        (("a", "b"), ("a", "b"), True),
        # One and the same name as a keyboard and as a Mac write it.
        (("caf\u00e9", "b"), ("cafe\u0301", "b"), True),
    ],
)
def test_classes_of_network_and_data_by_name(network, data, fits):
    dataset = DataSet("d", Path("here"), data, ((0, 0, 0),) * 2, {})
    predictor = predictor_that_says(np.zeros_like, network)
    if fits:
        check_classes(predictor, dataset)
        return
    with pytest.raises(CrissCrossError, match=f"^here: class 0 is {data[0]!r} here but {network[0]!r} in the network"):
        check_classes(predictor, dataset)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_folder(write_folder(tmp_path_factory.mktemp("data") / "small", {"train": 1, "val": IMAGES}, 40, 56))


@pytest.fixture
def segmenter(dataset):
    torch.manual_seed(0)
    model = ModelConfig("test_resnet", 8, **narrow(16, 0))
    data = DataConfig(name="folder", classes=dataset.classes, palette=default_palette(dataset.classes))
    config = InferenceConfig(ratios=(0.5, 1.0))
    network = Segmenter(Experiment("x", model, data, PreprocessConfig(scale=(70, 50)), inference=config))
    torch.nn.init.normal_(network.head.classify.weight)
    return network


def plain_counts(label, classes=3):
    """One pixel after the other over the split `val`, drawn anew; its first image is number 1."""
    counts = np.zeros((classes, classes), np.int64)
    for index in range(1, IMAGES + 1):
        truth, found = draw_labels(index, 40, 56), label(draw_image(index, 40, 56))
        for t, p in zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True):
            if t != 255:
                counts[t, p] += 1
    return counts


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("workers", [0, 1])
def test_counts_are_those_of_a_plain_loop(segmenter, dataset, workers, tta):
    saved = {}
    result = evaluate(
        segmenter.train(), dataset, "val", workers, tta=tta, save=lambda pair, labels: saved.update({pair.name: labels})
    )
    assert segmenter.training
    segmenter.eval()
    expected = plain_counts(lambda image: segmenter.predict(image, tta=tta).labels)
    assert result.counts.dtype == np.int64 and np.array_equal(result.counts, expected)
    assert (expected > 0).sum() > 4
    assert list(saved) == [pair.name for pair in dataset.split("val")]
    assert all(np.array_equal(saved[f"val_{n}"], segmenter.predict(draw_image(n + 1, 40, 56), tta=tta).labels)
               for n in range(IMAGES))  # fmt: skip
    assert (result.images, result.tta, result.on_gpu) == (IMAGES, tta, False)
    assert 0 < 1 / result.fps < result.seconds
    assert result.memory > 50 * 2**20


def test_several_processes_count_every_image_once(segmenter, dataset, monkeypatch):
    alone = evaluate(segmenter, dataset, "val").counts
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda counts: None)
    parts = []
    for index in range(2):
        state = types.SimpleNamespace(
            process_index=index, num_processes=2, is_main_process=index == 0, device=torch.device("cpu")
        )
        monkeypatch.setattr("crisscross.engine.semantic.evaluate.PartialState", lambda state=state: state)
        parts.append(evaluate(segmenter, dataset, "val").counts)
    assert all(part.sum() > 0 for part in parts)
    assert np.array_equal(parts[0] + parts[1], alone)


def test_an_absent_class_and_one_that_is_only_predicted(dataset):
    # Truth has no class 2 here; the network says 2 once and never 1.
    pairs = dataset.split("val")[:1]
    wider = replace(
        dataset, classes=(*dataset.classes, "four"), palette=(*dataset.palette, (9, 9, 9)), splits={"val": pairs}
    )
    truth = draw_labels(1, 40, 56)
    labels = np.where((truth == 2) | (truth == 255), 0, truth).astype(np.uint8)
    labels[5, 5] = 3
    predictor = predictor_that_says(lambda red: labels, wider.classes)
    result = evaluate(predictor, wider, "val")
    assert result.scores.iou[2] == 0 and result.scores.iou[3] == 0 and result.scores.accuracy[3] is None
    labels[5, 5] = 0
    result = evaluate(predictor, wider, "val")
    assert result.scores.iou[3] is None
    assert result.scores.miou == pytest.approx(sum(result.scores.iou[:3]) / 3)


# --- three things at once ---


def test_counting_goes_on_beside_the_network_but_never_far_behind(dataset):
    started, saved, ahead, release = [], [], [], threading.Event()

    def label(red):
        started.append(1)
        if len(started) == WAITING + 1:
            # The first image is not saved yet, and still the network goes on.
            assert not saved
            release.set()
        return all_ground(red)

    def save(pair, labels):
        assert release.wait(HANGS)
        # The network goes as far as it may, and has time to go further.
        wait_until(lambda: len(started) >= min(IMAGES, len(saved) + WAITING + 1))
        time.sleep(0.05)
        ahead.append(len(started) - len(saved))
        saved.append(pair.name)

    evaluate(predictor_that_says(label, dataset.classes), dataset, "val", save=save)
    assert len(saved) == IMAGES and max(ahead) == WAITING + 1


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("at", [1, IMAGES])
def test_an_error_while_saving_stops_the_work_with_its_own_line(segmenter, dataset, workers, at):
    calls = []

    def save(pair, labels):
        calls.append(pair.name)
        if len(calls) == at:
            raise CrissCrossError("out/x.png: cannot be written: No space left on device")

    with pytest.raises(CrissCrossError, match="No space left"):
        evaluate(segmenter.train(), dataset, "val", workers, save=save)
    assert segmenter.training
    assert len(calls) <= at + WAITING + 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("count")]


def test_a_label_out_of_range_stops_the_work(dataset, monkeypatch):
    # A predictor refuses logits of more classes than it names, so the labels themselves are raised.
    predictor = predictor_that_says(lambda red: all_ground(red), dataset.classes)
    items = predictor.labels_and_passes
    raised = lambda _, *given: ((item, labels + 3, passes) for item, labels, passes in items(*given))  # noqa: E731
    monkeypatch.setattr(Predictor, "labels_and_passes", raised)
    with pytest.raises(ValueError, match=r"prediction holds 3, outside 0\.\.2"):
        evaluate(predictor, dataset, "val")


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_comes_through_and_leaves_nothing_behind(segmenter, dataset, workers):
    def save(pair, labels):
        if pair.name == "val_1":
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            evaluate(segmenter.train(), dataset, "val", workers, save=save)
    finally:
        signal.signal(signal.SIGINT, before)
    assert segmenter.training
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("count")]


def test_after_ctrl_c_what_waits_is_dropped(dataset, monkeypatch):
    """Only the image that is being saved is finished."""
    started, saved, dropped = [], [], threading.Event()
    original = ThreadPoolExecutor.shutdown

    def shutdown(self, wait=True, cancel_futures=False):
        original(self, wait=False, cancel_futures=cancel_futures)
        dropped.set()
        original(self, wait=wait)

    def label(red):
        started.append(1)
        return all_ground(red)

    def save(pair, labels):
        wait_until(lambda: len(started) >= WAITING + 1)
        if not saved:
            os.kill(os.getpid(), signal.SIGINT)
            assert dropped.wait(HANGS)
        saved.append(pair.name)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shutdown)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            evaluate(predictor_that_says(label, dataset.classes), dataset, "val", save=save)
    finally:
        signal.signal(signal.SIGINT, before)
    assert saved == ["val_0"]


def test_stopping_by_request(segmenter, dataset):
    calls = []
    with pytest.raises(evaluation.Interrupted):
        evaluate(segmenter, dataset, "val", interrupted=lambda: len(calls) > 1, save=lambda *_: calls.append(1))
    assert len(calls) < IMAGES


def test_validation_has_the_precision_of_training(dataset, tmp_path, monkeypatch):
    from crisscross.config import AugmentConfig, TrainConfig
    from crisscross.engine import train as training

    seen = []

    def spy(segmenter, *rest):
        seen.append((torch.is_autocast_enabled("cpu"), segmenter.coarse(torch.zeros(1, 3, 32, 32)).main.dtype))
        return evaluate(segmenter, *rest)

    monkeypatch.setattr(evaluation, "evaluate", spy)
    model = ModelConfig("test_resnet", 8, **narrow(8, 0))
    plan = TrainConfig(iterations=1, batch=1, precision="bf16")
    training.train(Experiment("x", model, augment=AugmentConfig(crop=(32, 32)), train=plan), dataset, tmp_path / "run")
    assert seen == [(True, torch.bfloat16)]


# --- counting bytes ---


@pytest.mark.parametrize(("classes", "ignore"), [(3, 255), (150, 255), (255, 255), (19, 7), (2, 300)])
def test_bytes_are_counted_like_any_integers(classes, ignore):
    generator = torch.Generator().manual_seed(classes)
    truth, found = (torch.randint(0, classes, (37, 53), generator=generator) for _ in range(2))
    if ignore < 256:
        truth[torch.rand(37, 53, generator=generator) < 0.2] = ignore
    wide, narrow = ConfusionMatrix(classes, ignore), ConfusionMatrix(classes, ignore)
    wide.update(found, truth)
    narrow.update(found.byte(), truth.byte())
    assert np.array_equal(wide.counts, narrow.counts)
    counted = (truth != ignore).numpy()
    expected = np.zeros((classes, classes), np.int64)
    np.add.at(expected, (truth.numpy()[counted], found.numpy()[counted]), 1)
    assert np.array_equal(narrow.counts, expected)


@pytest.mark.parametrize(
    ("prediction", "truth", "words"),
    [([0, 3], [0, 1], r"prediction holds 3, outside 0\.\.2"), ([0, 1], [0, 254], r"truth holds 254, outside 0\.\.2")],
)
def test_bytes_out_of_range_are_refused(prediction, truth, words):
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=words):
        matrix.update(*(torch.tensor(values, dtype=torch.uint8) for values in (prediction, truth)))
    assert matrix.counts.sum() == 0
    matrix.update(torch.tensor([9], dtype=torch.uint8), torch.tensor([255], dtype=torch.uint8))
    assert matrix.counts.sum() == 0


# --- the command ---


@pytest.mark.parametrize(("device", "pinned"), [("cpu", False), ("cuda:0", True)])
def test_images_for_a_gpu_are_read_into_page_locked_memory(dataset, device, pinned, monkeypatch):
    asked, real = [], processes.DataLoader

    def noted(*given, pin_memory=False, **named):
        asked.append(pin_memory)
        return real(*given, **named)

    monkeypatch.setattr(processes, "DataLoader", noted)
    predictor = types.SimpleNamespace(
        device=device, labels_and_passes=lambda items, tta: ((item, image, []) for item, image in items)
    )
    found = list(labeled_pairs(predictor, dataset, [(pair,) for pair in dataset.split("val")], 0, False))
    assert len(found) == IMAGES and asked == [pinned]


def test_one_table_in_percent():
    # Rows are truth: 3 hits and 1 miss of the first class, which is found once where the second is; no third class.
    counts = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    found = Evaluation("val", 2, scores(counts), counts.numpy(), 9.0, False, 3.323, 6 * 2**30, True)
    names = ("road", "sky", "tree")
    table, scored, cost = as_result(found, names).shown
    assert table == [
        ["class (percent)", "IoU", "accuracy", "pixels"],
        ["road", "75.00", "75.00", "50.00"],
        ["sky", "80.00", "100.00", "50.00"],
        ["tree", "absent", "-", "0.00"],
        ["mean", "77.50", "87.50", ""],
    ]
    assert scored == "val: mIoU 77.50, pixel accuracy 87.50, mean accuracy 87.50 (percent; 2 images)"
    assert cost.startswith("3.32 images/s") and "; 6.00 GiB of memory at most (allocated on the GPU); 9.0 s" in cost
    flipped = as_result(replace(found, tta=True, memory=None), names).shown
    assert flipped[1].endswith("2 images, multi-scale + flip)") and "GiB" not in flipped[2]


def test_dice_precision_and_recall_on_request():
    counts = torch.tensor([[3, 1], [0, 4]])
    found = Evaluation("val", 2, scores(counts), counts.numpy(), 9.0)
    assert as_result(found, ("road", "sky"), dice=True).shown[0] == [
        ["class (percent)", "IoU", "Dice (F1)", "precision", "recall", "pixels"],
        # 2 * 3 / (4 + 3), 3 / 3, 3 / 4
        ["road", "75.00", "85.71", "100.00", "75.00", "50.00"],
        # 2 * 4 / (4 + 5), 4 / 5, 4 / 4
        ["sky", "80.00", "88.89", "80.00", "100.00", "50.00"],
        ["mean", "77.50", "87.30", "90.00", "87.50", ""],
    ]


def test_every_image_has_a_score_of_its_own(dataset):
    result = evaluate(predictor_that_says(all_ground, dataset.classes), dataset, "val")
    assert [*result.image_iou] == [pair.name for pair in dataset.split("val")]
    for pair in dataset.split("val"):
        truth = np.asarray(Image.open(pair.mask))
        valid = truth != dataset.ignore
        # All is called ground: the IoU of ground is its fraction, those of the others that are there are 0.
        present = np.union1d(np.unique(truth[valid]), [0])
        expected = (truth[valid] == 0).mean() / len(present)
        assert result.image_iou[pair.name] == pytest.approx(expected)


def test_the_first_images_warm_up():
    assert evaluation._fps([9, 9, 9, 9, 9, 0.5, 0.25, 0.25]) == 3
    assert evaluation._fps([0.5, 0.5]) == 2 and evaluation._fps([]) is None


def test_the_shipped_network_from_the_command_line(tmp_path, capsys, monkeypatch):
    written = []

    def write_prediction(dataset, pair, labels, folder: Path) -> Path:
        path = folder / f"{pair.name}.png"
        write_atomically(path, lambda temporary: Image.fromarray(labels).save(temporary, format="PNG"))
        written.append((dataset.name, pair.name))
        return path

    monkeypatch.setattr(semantic_task, "write_prediction", write_prediction)
    monkeypatch.setattr(semantic_task, "prediction_path", lambda dataset, pair, folder: folder / f"{pair.name}.png")
    data, out, facts = draw_camvid(tmp_path / "camvid"), tmp_path / "out", tmp_path / "facts.json"
    words = ["evaluate", "camvid-light", "--data", str(data), "--workers", "0", "--json", str(facts)]
    assert main([*words, "--save-predictions", str(out)]) == 0
    known, printed = json.loads(facts.read_text()), capsys.readouterr().out
    network = crisscross.load("camvid-light")
    counts = np.zeros((11, 11), np.int64)
    for name in ("test_a", "test_b"):
        labels = network.predict(data / "test" / f"{name}.jpg").labels
        saved = np.asarray(Image.open(out / f"{name}.png"))
        # The command lays the weights out channels-last: another order of sums.
        assert (saved == labels).mean() > 0.95
        truth = np.asarray(Image.open(data / "testannot" / f"{name}.png"))
        np.add.at(counts, (truth[truth != 11], saved[truth != 11]), 1)
    assert np.array_equal(known["confusion"], counts)
    assert written == [("camvid", "test_a"), ("camvid", "test_b")]
    assert (known["split"], known["images"], known["tta"]) == ("test", 2, False)
    assert known["fps"] > 0 and known["memory_bytes"] > 2**26 and known["memory_kind"] == "resident"
    assert "images/s of preprocessing, network and labels" in printed and printed.count("class (percent)") == 1
    assert CAMVID[0] in printed and f"mIoU {100 * known['miou']:.2f}" in printed
    assert known["precision"] == "fp32" and [*known["image_iou"]] == ["test_a", "test_b"]


def test_multi_scale_flip_and_weights_for_a_recipe_from_the_command_line(segmenter, dataset, tmp_path, capsys):
    crisscross.save(segmenter, tmp_path / "net.safetensors")
    words = ["--data", str(dataset.root), "--split", "val", "--workers", "0", "--json", str(tmp_path / "facts.json")]
    assert main(["evaluate", str(tmp_path / "net.safetensors"), *words, "--tta"]) == 0
    known = json.loads((tmp_path / "facts.json").read_text())
    result = evaluate(crisscross.load(tmp_path / "net.safetensors"), dataset, "val", tta=True)
    assert known["tta"] and known["miou"] == pytest.approx(result.scores.miou, abs=0.01)
    said = capsys.readouterr().out.splitlines()[-2]
    assert said.startswith(f"val: mIoU {100 * known['miou']:.2f},") and said.endswith("images, multi-scale + flip)")
    # The recipe decides all but the weights and the classes; these weights are of another network.
    assert main(["evaluate", "demo", "--weights", str(tmp_path / "net.safetensors"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("crisscross: ") and "net.safetensors" in line
    assert main(["evaluate", "demmo", "--weights", str(tmp_path / "net.safetensors"), *words]) == 2
    assert "no recipe 'demmo'" in capsys.readouterr().err


def test_a_recipe_with_the_weights_of_a_file(dataset, tmp_path):
    made = crisscross.build("demo", pretrained=False, classes=list(dataset.classes), **{"preprocess.scale": [48, 32]})
    crisscross.save(made, tmp_path / "demo.safetensors")
    found = crisscross.load("demo", weights=tmp_path / "demo.safetensors")
    # The file's experiment has a test scale, the recipe has none.
    assert found.experiment.preprocess.scale is None and made.experiment.preprocess.scale == (48, 32)
    assert found.classes == dataset.classes
    assert torch.equal(found.head.classify.weight, made.head.classify.weight)


def test_other_classes_are_one_line(tmp_path, capsys):
    data = write_folder(tmp_path / "data", {"val": 1})
    assert main(["evaluate", "camvid-light", "--data", str(data), "--name", "folder", "--split", "val"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has 3 classes (" in line and "the network 11 (sky, building, pole, road, ...)" in line
    assert line.endswith("train it on these classes: `crisscross train RECIPE --init NETWORK --data DIR --out RUN`")
