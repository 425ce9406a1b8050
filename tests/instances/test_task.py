"""Instance segmentation end to end: training, resuming, scoring, predicting, and what is refused."""

import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from instances_data import HEIGHT, TINY, WIDTH, annotation, bar, tree_of, write_coco
from PIL import Image
from pycocotools.coco import COCO
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import crisscross
from crisscross import checkpoints
from crisscross.cli import main
from crisscross.config import override, to_yaml
from crisscross.data.files.coco_masks import decode
from crisscross.engine.optimizer import create_optimizer
from crisscross.engine.run.journal import Journal
from crisscross.engine.schedule import learning_rate
from crisscross.engine.setup import Machine
from crisscross.engine.task import Result
from crisscross.engine.train import train
from crisscross.errors import CrissCrossError
from crisscross.instances import weights as instance_weights
from crisscross.instances.annotations import open_coco_instances
from crisscross.instances.config import InstanceExperiment, InstanceOptimConfig
from crisscross.instances.network import InstanceSegmenter, torchvision_classes
from crisscross.instances.task import InstanceSegmentation, scaling_advice
from crisscross.instances.weights import load_instances, with_data_classes
from crisscross.progress import Progress
from crisscross.zoo import shipped_weights

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = Machine(device="cpu")


def train_instances(*what, **options):
    return train(*what, **options, task=InstanceSegmentation())


def tiny(*words):
    return override(InstanceExperiment(), [*TINY, *words])


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="module")
def run(coco, tmp_path_factory):
    """A finished run of four iterations."""
    folder = tmp_path_factory.mktemp("run") / "run"
    train_instances(tiny(), open_coco_instances(coco), folder, CPU)
    return folder


def weights(folder):
    tensors = load_file(folder / "last.safetensors")
    return {key: value for key, value in tensors.items() if not key.startswith("optimizer/")}


def test_a_run_leaves_what_it_says(run):
    assert {path.name for path in run.iterdir()} == {
        *("experiment.yaml", "run.json", "log.jsonl", "log.csv", "last.safetensors", "best.safetensors"),
        *("report.html", "README.md"),
    }
    record = json.loads((run / "run.json").read_text())
    assert record["data"]["images"] == {"train": 4, "val": 4}
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    terms = ("classifier", "box_reg", "mask", "objectness", "rpn_box_reg")
    for line in lines[:4]:
        assert line["loss"] == pytest.approx(sum(line[f"loss_{term}"] for term in terms), abs=1e-3)
    assert lines[-1]["iteration"] == 4 and "val_mask_ap" in lines[-1]
    assert (run / "log.csv").read_text().splitlines()[0] == "iteration,loss,lr,seconds,val_mask_ap,val_box_ap"


def as_earlier_versions_wrote_it(path):
    """The names of the optimizer's tensors began with `optimiser/`, and the best score was called `best_mask_ap`."""
    with safe_open(path, "pt") as file:
        header, tensors = file.metadata(), load_file(path)
    facts = json.loads(header["facts"])
    position = {key: facts["position"][key] for key in ("iteration", "validated", "best_iteration", "skipped")}
    facts["position"] = position | {"best_mask_ap": None, "best_box_ap": None}
    old = {key.replace("optimizer/", "optimiser/"): value for key, value in tensors.items()}
    assert old.keys() != tensors.keys()
    save_file(old, path, header | {"facts": json.dumps(facts)})


def test_resuming_gives_the_weights_of_an_uninterrupted_run(run, coco, tmp_path):
    def stop(step):
        if step.iteration == 2:
            os.kill(os.getpid(), signal.SIGINT)

    first = train_instances(tiny(), open_coco_instances(coco), tmp_path / "run", CPU, listener=stop)
    assert not first.finished and first.position.iteration == 2
    as_earlier_versions_wrote_it(tmp_path / "run" / "last.safetensors")
    second = train_instances(tiny(), open_coco_instances(coco), tmp_path / "run", CPU, resume=True)
    assert second.finished
    wanted, got = weights(run), weights(tmp_path / "run")
    assert wanted.keys() == got.keys() and all(torch.equal(wanted[key], got[key]) for key in wanted)
    with pytest.raises(CrissCrossError, match=r"cannot resume with another experiment; it differs in optim\.lr"):
        train_instances(tiny("optim.lr=0.5"), open_coco_instances(coco), tmp_path / "run", CPU, resume=True)
    with pytest.raises(CrissCrossError, match="holds a run already"):
        train_instances(tiny(), open_coco_instances(coco), tmp_path / "run", CPU)


def test_training_moves_what_learns_and_opens_the_gate(run, coco):
    torch.manual_seed(0)
    trained = crisscross.load(run)
    fresh = InstanceSegmenter(trained.experiment)
    gate = trained.backbone.body.layer3.attention.attention.gamma
    assert gate != 0
    assert trained.classes == ("disc", "bar") and trained.experiment.data.categories == (3, 17)
    assert torch.equal(fresh.backbone.body.bn1.running_mean, trained.backbone.body.bn1.running_mean)


def test_another_run_can_start_from_this_one(run, coco, tmp_path):
    said = []
    words = ("train.iterations=1", "optim.warmup=0", "optim.lr=1e-9", "model.norm_eps=0.5", "data.val_split=none")
    begin = {"init": str(run / "last.safetensors")}
    train_instances(tiny(*words), open_coco_instances(coco), tmp_path / "run", CPU, **begin, listener=said.append)
    wanted, got = weights(run), weights(tmp_path / "run")
    assert all(torch.allclose(wanted[key], got[key], atol=1e-6) for key in wanted)
    # What the weights were trained with goes with them.
    assert crisscross.load(tmp_path / "run").experiment.model.norm_eps == 1e-5
    # Classifiers of other classes start anew, which is said.
    tree = tree_of()
    tree["categories"].append({"id": 40, "name": "star"})
    other = open_coco_instances(write_coco(tmp_path / "other", tree))
    train_instances(tiny(*words), other, tmp_path / "new", CPU, **begin)
    assert crisscross.load(tmp_path / "new").classes == ("disc", "bar", "star")


def test_a_recipes_name_starts_from_torchvisions_weights(run, coco, tmp_path, monkeypatch, capsys):
    config = tmp_path / "tiny.yaml"
    config.write_text(to_yaml(tiny("train.iterations=1", "optim.warmup=0", "optim.lr=1e-9")))
    words = [
        "train",
        str(config),
        "--data",
        str(coco),
        "--workers",
        "0",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "run"),
    ]
    monkeypatch.setenv("CRISSCROSS_OFFLINE", "1")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    assert main([*words, "--init", "maskrcnn_r50_fpn_coco"]) == 2
    assert "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth are not available (not in the cache" in capsys.readouterr().err
    assert main([*words, "--init", "maskrcnn_r101_fpn_coco"]) == 2
    assert "maskrcnn_r101_fpn_coco has no weights; train it with" in capsys.readouterr().err
    # A small network in the place of torchvision's.
    monkeypatch.setattr(instance_weights, "torchvision_file", lambda: run / "last.safetensors")
    assert main([*words, "--init", "maskrcnn_r50_fpn_coco"]) == 0
    assert "--init maskrcnn_r50_fpn_coco: all weights are taken over, of the same 2 classes" in capsys.readouterr().err
    wanted, got = weights(run), weights(tmp_path / "run")
    assert all(torch.allclose(wanted[key], got[key], atol=1e-6) for key in wanted)


def test_cocos_own_classes_keep_torchvisions_outputs(tmp_path):
    published = torchvision_classes()
    assert len(published) == 90 and published[0] == "person" and published[11] == "unused 12"
    whole = {"roi_heads.box_predictor.cls_score.weight": torch.zeros(91, 4)}
    tree = tree_of()
    names = [{"id": 3, "name": "car"}, {"id": 17, "name": "cat"}]
    split = open_coco_instances(write_coco(tmp_path / "a", tree | {"categories": names})).split("train")
    settled = with_data_classes(tiny(), split, whole).data
    assert settled.classes == published and settled.categories == tuple(range(1, 91))
    assert with_data_classes(tiny(), split, {}).data.categories == (3, 17)
    split = open_coco_instances(write_coco(tmp_path / "b", tree)).split("train")
    assert with_data_classes(tiny(), split, whole).data.classes == ("disc", "bar")


def test_learning_lowers_the_loss(coco, tmp_path):
    losses = []
    words = ("train.iterations=16", "model.trainable_layers=1", "augment.flip=0", "data.val_split=none")
    experiment = tiny(*words, "optim.name=adamw", "optim.lr=1e-3")
    data = open_coco_instances(coco)
    train_instances(experiment, data, tmp_path, CPU, listener=lambda step: losses.append(step.loss))
    # 2.86 and 2.17 were seen.
    assert np.mean(losses[-3:]) < 0.85 * np.mean(losses[:2])
    assert not (tmp_path / "best.safetensors").exists()


def test_the_published_schedule():
    config = InstanceOptimConfig(warmup=1000)
    assert learning_rate(config, 0, 90_000) == pytest.approx(0.02 * 0.001)
    assert learning_rate(config, 500, 90_000) == pytest.approx(0.02 * 0.5005)
    for iteration, factor in ((1000, 1), (59_999, 1), (60_000, 0.1), (79_999, 0.1), (80_000, 0.01), (89_999, 0.01)):
        assert learning_rate(config, iteration, 90_000) == pytest.approx(0.02 * factor)
    assert learning_rate(InstanceOptimConfig(warmup=0), 0, 90_000) == 0.02


def test_another_batch_is_said_and_nothing_scaled():
    assert scaling_advice(InstanceExperiment()) == ""
    line = scaling_advice(override(InstanceExperiment(), ["train.batch=4"]))
    assert "--set optim.lr=0.005" in line and "nothing is scaled" in line
    assert scaling_advice(override(InstanceExperiment(), ["train.batch=4", "optim.lr=0.005"])) == ""


def test_the_backbone_has_its_own_rate_and_attention_that_of_the_heads():
    experiment = tiny("optim.backbone_factor=0.25")
    data = SimpleNamespace(classes=("disc", "bar"), categories=(3, 17))
    experiment = override(
        experiment, [f"data.classes={list(data.classes)}", f"data.categories={list(data.categories)}"]
    )
    network = InstanceSegmenter(experiment)
    optimizer = create_optimizer(experiment.optim, network, InstanceSegmentation().stages(network))
    factor = {id(p): group["factor"] for group in optimizer.param_groups for p in group["params"]}
    body = network.backbone.body
    assert factor[id(body.layer4[0].conv1.weight)] == 0.25
    assert factor[id(body.layer3.attention.attention.gamma)] == 1.0
    assert factor[id(network.rpn.head.cls_logits.weight)] == 1.0
    assert len(factor) == sum(p.requires_grad for p in network.parameters())


def test_the_commands(coco, tmp_path, capsys):
    config = tmp_path / "tiny.yaml"
    config.write_text(to_yaml(tiny("inference.score=0", "train.iterations=1", "optim.warmup=0")))
    out = tmp_path / "run"
    machine = ["--workers", "0", "--device", "cpu"]
    assert main(["train", str(config), "--data", str(coco), "--out", str(out), *machine]) == 0
    said = capsys.readouterr()
    assert f"crisscross evaluate {out} --data {coco}" in said.out
    assert "train: 1 of 4 images have no instance to learn from: left out" in said.err
    scores, saved = tmp_path / "scores.json", tmp_path / "saved"
    words = ["--data", str(coco), *machine, "--json", str(scores), "--save-predictions", str(saved)]
    assert main(["evaluate", str(out), *words]) == 0
    table = capsys.readouterr().out
    assert "box AP  mask AP" in table and "disc" in table and "AP50" in table
    facts = json.loads(scores.read_text())
    assert facts["task"] == "instances" and set(facts["mask"]["classes"]) == {"disc", "bar"}
    boxes, masks = (json.loads((saved / f"instances_val_{kind}_results.json").read_text()) for kind in ("bbox", "segm"))
    assert boxes and set(boxes[0]) == {"image_id", "category_id", "bbox", "score"}
    assert len(masks) == len(boxes) and set(masks[0]) == {"image_id", "category_id", "segmentation", "score"}
    assert len(list(saved.iterdir())) == 2
    drawn = tmp_path / "drawn"
    image = str(coco / "val2017" / "p0.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    words = [image, str(tmp_path / "broken.png"), "--out", str(drawn), "--device", "cpu", "--score", "0"]
    assert main(["predict", str(out), *words]) == 2
    said = capsys.readouterr()
    assert "broken.png: not an image" in said.err
    with Image.open(drawn / "drawn" / "p0.png") as opened:
        assert opened.size == (WIDTH, HEIGHT)
    (entry,) = json.loads((drawn / "instances.json").read_text())
    assert entry["file"] == image and 0 < len(entry["instances"]) <= 10
    assert set(entry["instances"][0]) == {"class", "score", "box", "mask"}
    names = [found["class"] for found in entry["instances"]]
    counted = [f"{names.count(name)} {name}" for name in sorted(set(names), key=names.count, reverse=True)]
    assert f"{image}: {', '.join(counted)}" in said.out.splitlines()
    assert json.loads((drawn / "classes.json").read_text()) == [{"id": 0, "name": "disc"}, {"id": 1, "name": "bar"}]


def test_instances_in_other_formats(run, coco, tmp_path):
    words = ["--device", "cpu", "--score", "0", "--format", "png,polygons,coco,rle", "--out", str(tmp_path / "out")]
    assert main(["predict", str(run), str(coco / "val2017" / "p0.png"), *words]) == 0
    read = {name: json.loads((tmp_path / "out" / name).read_text()) for name in ("instances.json", "coco.json")}
    masks, polygons = (json.loads((tmp_path / f"out/{kind}/p0.json").read_text())[kind] for kind in ("rle", "polygons"))
    found, written = read["instances.json"][0]["instances"], COCO(str(tmp_path / "out" / "coco.json"))
    assert [(one["name"], one["score"], one["box"]) for one in masks] == [
        (one["class"], one["score"], one["box"]) for one in found
    ]
    assert [{"size": one["size"], "counts": one["counts"]} for one in masks] == [one["mask"] for one in found]
    # An instance without a pixel is no annotation and has no outline.
    seen = [one for one in found if decode(one["mask"], HEIGHT, WIDTH).any()]
    assert written.getCatIds() == [3, 17] and len(seen) == len(written.anns) > 0
    for one, entry in zip(seen, written.anns.values(), strict=True):
        assert written.cats[entry["category_id"]]["name"] == one["class"]
        assert entry["score"] == one["score"] and entry["segmentation"] == one["mask"]
    assert {one["score"] for one in polygons} == {one["score"] for one in seen}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["train", "{yaml}", "--data", "{coco}", "--out", "{new}", "--cache", "ram"],
            "--cache is not available for instance",
        ),
        (
            ["train", "{yaml}", "--data", "{coco}", "--out", "{new}", "--compile"],
            "--compile is not available for instance",
        ),
        (
            ["train", "{yaml}", "--data", "{coco}", "--out", "{new}", "--init", "a", "--backbone-weights", "b"],
            "give one of them",
        ),
        (["train", "{yaml}", "--data", "{coco}", "--out", "{new}", "--init", "{nowhere}"], "no such file"),
        (["train", "{yaml}", "--data", "{nowhere}", "--out", "{new}"], "no such folder"),
        (["predict", "{run}", "{film}", "--out", "{new}"], "networks of instance segmentation take images"),
        (["train", "{yaml}", "--data", "{coco}", "--out", "{new}", "--set", "modle.backbone=x"], "did you mean model?"),
        (["train", "maskrcnn_r50_fpn_rca_coco", "--data", "{coco}", "--out", "{new}"], "did you mean maskrcnn_r50"),
        (["evaluate", "{run}", "--data", "{coco}", "--tta"], "--tta is not available for instance"),
        (["evaluate", "{run}", "--data", "{coco}", "--split", "test"], "no split 'test'"),
        (["evaluate", "maskrcnn_r50_fpn_rcca_coco", "--data", "{coco}", "--offline"], "downloads are off"),
        (["evaluate", "maskrcnn_r101_fpn_rcca_coco", "--data", "{coco}"], "has no weights; train it"),
        (["predict", "{run}", "{coco}/val2017", "--big", "--out", "{new}"], "--big is not available for instance"),
        (
            ["predict", "{run}", "{coco}/val2017", "--format", "csv", "--out", "{new}"],
            "--format csv is not available for the task instances; it has png, polygons, coco, rle",
        ),
        (
            ["predict", "{run}", "{coco}/val2017", "--legend", "--out", "{new}"],
            "--legend is not available for instance segmentation: names are drawn beside the instances",
        ),
        (["predict", "camvid-light", "{coco}/val2017", "--score", "0.3", "--out", "{new}"], "--score is for instance"),
        (
            ["convert", "{run}/last.safetensors", "{new}/x.safetensors"],
            "is of the task instances; convert handles",
        ),
        (["data", "check", "{coco}", "--name", "coco-instances", "--plot", "{new}"], "--plot is not available for"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(coco, run, tmp_path, capsys, words, said):
    (tmp_path / "tiny.yaml").write_text(to_yaml(tiny()))
    places = {"yaml": tmp_path / "tiny.yaml", "coco": coco, "run": run, "new": tmp_path / "new"}
    places["film"] = tmp_path / "film.mp4"
    places["film"].write_bytes(b"")
    words = [word.format(nowhere=tmp_path / "nowhere", **places) for word in words]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_checking_the_data_lists_what_is_wrong(tmp_path, capsys):
    tree = tree_of()
    damaged = {"size": [HEIGHT, WIDTH], "counts": "P0"}
    tree["annotations"] += [
        annotation(90, 100, 3, damaged, [5, 5, 20, 20]),
        annotation(91, 100, 3, [bar(-30, 5, 20, 20)], [5, 5, 20, 20]),
        annotation(92, 100, 3, [], [5, 5, 20, 20]),
    ]
    root = write_coco(tmp_path, tree, ("val",))
    Image.new("RGB", (9, 9)).save(root / "val2017" / "p1.png")
    (root / "val2017" / "p2.png").unlink()
    assert main(["data", "check", str(root), "--name", "coco-instances", "--json", str(tmp_path / "found.json")]) == 2
    said = capsys.readouterr().out
    assert "val: 4 images, 3 with something to learn from; 8 instances of 2 classes, 0 crowds" in said
    assert "val: 1 annotations with an empty mask: left out" in said and "errors: 4" in said
    problems = json.loads((tmp_path / "found.json").read_text())["problems"]
    for words in ("90: damaged run lengths", "91 covers no pixel", "p1.png: is 9 x 9", "p2.png: no such file"):
        assert sum(words in problem for problem in problems) == 1
    assert main(["data", "check", str(write_coco(tmp_path / "whole")), "--name", "coco-instances"]) == 0


def test_one_door_opens_every_network(run, tmp_path):
    assert isinstance(crisscross.load(run), InstanceSegmenter)
    assert crisscross.load(run / "best.safetensors", detections=3).experiment.inference.detections == 3
    assert isinstance(crisscross.load("camvid-light"), crisscross.Segmenter)
    with pytest.raises(CrissCrossError, match="downloads are off"):
        crisscross.load("maskrcnn_r50_fpn_rcca_coco", offline=True)
    with pytest.raises(CrissCrossError, match="not a run folder"):
        crisscross.load(tmp_path)
    with pytest.raises(CrissCrossError, match="did you mean maskrcnn_r50_fpn_rcca_coco"):
        crisscross.load("maskrcnn_r50_fpn_rca_coco")


def test_the_two_tasks_do_not_take_each_other(run):
    with pytest.raises(CrissCrossError, match="this is an experiment of the task instances, not of segmentation"):
        checkpoints.load(run)
    with pytest.raises(CrissCrossError, match="this is an experiment of the task instances, not of segmentation"):
        crisscross.build("maskrcnn_r50_fpn_rcca_coco")
    with pytest.raises(CrissCrossError, match="does not describe its network"):
        load_instances(shipped_weights("camvid-light"))
    with pytest.raises(CrissCrossError, match="this is an experiment of the task segmentation, not of instances"):
        load_instances("camvid-light")


def test_training_options_of_the_one_trainer_work_for_instances(coco, tmp_path):
    words = ("train.ema=0.5", "train.early_stop=1", "train.validate_every=1", "optim.clip=0.1", "optim.lr=1e-9")
    steps = []
    outcome = train_instances(tiny(*words), open_coco_instances(coco), tmp_path, CPU, listener=steps.append)
    assert outcome.finished and outcome.position.iteration < 4 and outcome.position.waited == 1
    assert all(step.grad_norm > 0.1 for step in steps)
    tensors = load_file(tmp_path / "last.safetensors")
    assert "optimizer/live/roi_heads.box_head.fc6.weight" in tensors


def test_nothing_to_learn_from_is_said(tmp_path):
    tree = tree_of()
    tree["annotations"] = [annotation(1, 100, 3, [bar(5, 5, 20, 20)], [5, 5, 20, 20], iscrowd=1)]
    with pytest.raises(CrissCrossError, match="no image has an instance to learn from"):
        train_instances(tiny(), open_coco_instances(write_coco(tmp_path / "coco", tree)), tmp_path / "run", CPU)
    assert not (tmp_path / "run").exists()


def test_a_missing_pycocotools_names_the_command(coco, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.mask", None)
    with pytest.raises(CrissCrossError, match=r"needs pycocotools: run `pip install '\.\[instances\]'`"):
        train_instances(tiny(), open_coco_instances(coco), tmp_path / "run", CPU)


def test_a_image_that_goes_bad_is_named_and_the_run_saved(tmp_path):
    root = write_coco(tmp_path / "coco")

    def break_it(step):
        for path in (root / "train2017").iterdir():
            path.write_bytes(b"")

    experiment = tiny("data.val_split=none")
    with pytest.raises(
        CrissCrossError,
        match=r"empty file \(0 bytes\); .*saved at iteration 1, continue with `crisscross train ",
    ):
        train_instances(experiment, open_coco_instances(root), tmp_path / "run", CPU, listener=break_it)
    assert (tmp_path / "run" / "last.safetensors").is_file()


def test_runs_of_every_task_are_compared(run, tmp_path, capsys):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "experiment.yaml").write_text("task: nowhere:Task\nname: own\n")
    entries = [{"iteration": 1, "loss": 2.0, "lr": 0.1, "seconds": 1.0}, {"iteration": 1, "val_accuracy": 0.25}]
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert main(["report", str(run), "--out", str(tmp_path / "one.html")]) == 0
    assert "best val mask AP" in capsys.readouterr().out
    assert main(["report", str(run), str(folder), "--out", str(tmp_path / "two.html")]) == 0
    said = capsys.readouterr().out
    assert "best val score" in said and "0.2500" in said
    page = (tmp_path / "two.html").read_text()
    assert all(f"Validation {title}" in page for title in ("mask AP", "box AP", "accuracy"))


def test_attention_is_left_out_by_name():
    with pytest.raises(CrissCrossError, match=r"model\.recurrence must be .*; model\.attention=none leaves .*, got 0"):
        tiny("model.recurrence=0")


def test_a_score_of_two_words_keeps_its_blank(tmp_path):
    progress = Progress("train", 2)
    accelerator = SimpleNamespace(is_main_process=False, log=lambda *given: None)
    Journal(tmp_path, 0, 0, accelerator, progress, ()).validation(1, Result(0.25, {}), "mask AP")
    assert progress.facts == {"mask AP": "0.250"}
