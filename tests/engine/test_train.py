"""Training runs: learning, resuming bit for bit, stopping safely, refusing clearly."""

import json
import math
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from shapes_data import EXPERIMENT as TINY
from shapes_data import write_shapes
from waiting import HANGS, wait_until

from crisscross.checkpoints import load, native
from crisscross.cli import main
from crisscross.config import Experiment, from_dict, override
from crisscross.data import DataSet, open_folder
from crisscross.engine import loop
from crisscross.engine.loop import Step
from crisscross.engine.run.log import read_log
from crisscross.engine.setup import Machine
from crisscross.engine.train import train
from crisscross.errors import CrissCrossError
from crisscross.files import temporary_path
from crisscross.losses import Losses

pytestmark = pytest.mark.usefixtures("one_thread")

EXPERIMENT = {
    **TINY,
    # A file that names a backbone, but no mean and std, takes those of the backbone.
    "preprocess": {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
    "train": {"iterations": 8, "batch": 4, "validate_every": 4, "checkpoint_every": 3},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def dataset(folder: Path) -> DataSet:
    return open_folder(folder)


def experiment(*changes: str) -> Experiment:
    return override(from_dict(Experiment, EXPERIMENT), changes)


@pytest.fixture(scope="module")
def whole_run(dataset: DataSet, tmp_path_factory) -> Path:
    """The uninterrupted run that others are compared with."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert train(experiment(), dataset, out).finished
    return out


def same_state(first: Path, second: Path) -> list[str]:
    """Names of tensors (weights and optimizer) that differ in a single bit."""
    ours, theirs = native.read(first)[0], native.read(second)[0]
    assert ours.keys() == theirs.keys()
    return [key for key in ours if not torch.equal(ours[key], theirs[key])]


def test_a_run_folder_is_complete_and_loads(whole_run, folder):
    assert sorted(path.name for path in whole_run.iterdir()) == [
        "README.md",
        "best.safetensors",
        "experiment.yaml",
        "last.safetensors",
        "log.csv",
        "log.jsonl",
        "report.html",
        "run.json",
    ]
    entries = read_log(whole_run)
    assert [entry["iteration"] for entry in entries if "loss" in entry] == list(range(1, 9))
    assert [entry["iteration"] for entry in entries if "val_miou" in entry] == [4, 8]
    assert (whole_run / "log.csv").read_text().count("\n") == 9
    segmenter = load(whole_run)
    assert segmenter.classes == ("ground", "disc", "square")
    labels = segmenter.predict(folder / "images" / "p00.png").labels
    assert labels.shape == (64, 80) and labels.max() <= 2


def test_it_learns(dataset, tmp_path):
    # Brightness tells these classes apart, so it must not be distorted.
    changes = ("train.iterations=60", "train.validate_every=0", "loss.normalizer=valid", "augment.distortion=false")
    train(experiment(*changes), dataset, tmp_path / "run")
    scored = [entry["val_miou"] for entry in read_log(tmp_path / "run") if "val_miou" in entry]
    # One third of each class at random would be an IoU near 0.1.
    assert scored[-1] > 0.6


def test_resume_after_a_crash_gives_the_same_bits(whole_run, dataset, tmp_path):
    class Crash(Exception):
        pass

    def crash(step: Step) -> None:
        if step.iteration == 5:
            raise Crash

    out = tmp_path / "run"
    with pytest.raises(Crash):
        train(experiment(), dataset, out, listener=crash)
    seen: list[int] = []
    assert train(experiment(), dataset, out, resume=True, listener=lambda step: seen.append(step.iteration)).finished
    # The validation after iteration 4 saved the run.
    assert seen == [5, 6, 7, 8]
    assert same_state(whole_run / "last.safetensors", out / "last.safetensors") == []
    assert same_state(whole_run / "best.safetensors", out / "best.safetensors") == []
    losses = [[entry["loss"] for entry in read_log(run) if "loss" in entry] for run in (whole_run, out)]
    assert losses[0] == losses[1]


def test_the_comparison_of_states_can_fail(whole_run, dataset, tmp_path):
    train(experiment("train.seed=1"), dataset, tmp_path / "other")
    assert len(same_state(whole_run / "last.safetensors", tmp_path / "other" / "last.safetensors")) > 50


def test_workers_do_not_change_the_result(whole_run, dataset, tmp_path):
    train(experiment(), dataset, tmp_path / "run", Machine(workers=2))
    assert same_state(whole_run / "last.safetensors", tmp_path / "run" / "last.safetensors") == []


def test_accumulation_sees_the_same_images(dataset, tmp_path, monkeypatch):
    names: list[str] = []
    original = loop._one_pass

    def record(network, batch, *rest):
        names.extend(batch.names)
        return original(network, batch, *rest)

    monkeypatch.setattr(loop, "_one_pass", record)
    for parts in (1, 2):
        train(experiment(f"train.accumulate={parts}", "train.iterations=3"), dataset, tmp_path / f"run{parts}")
    assert len(names) == 24 and names[:12] == names[12:]


@pytest.mark.parametrize(
    ("change", "key"), [("optim.lr=0.01", "optim.lr"), ("model.head=ce2p", "model.head.activation")]
)
def test_resume_refuses_another_experiment(whole_run, dataset, change, key):
    with pytest.raises(CrissCrossError, match=rf"differs in .*{key}"):
        train(experiment(change), dataset, whole_run, resume=True)


def test_a_used_folder_and_nothing_to_resume_are_refused(whole_run, dataset, tmp_path):
    before = (whole_run / "last.safetensors").read_bytes()
    with pytest.raises(CrissCrossError, match="holds a run already"):
        train(experiment(), dataset, whole_run)
    assert (whole_run / "last.safetensors").read_bytes() == before
    with pytest.raises(CrissCrossError, match="nothing to resume"):
        train(experiment(), dataset, tmp_path / "none", resume=True)


@pytest.mark.filterwarnings("ignore:.*run.json")
@pytest.mark.parametrize("name", ["experiment.yaml", "log.csv", "best.safetensors", "run.json"])
def test_files_that_no_training_wrote_stay(dataset, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(CrissCrossError, match=f"{name}: is there already, and no training wrote it; choose another"):
        train(experiment(), dataset, tmp_path)
    assert (tmp_path / name).read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_a_run_that_ended_before_it_was_saved_begins_anew(whole_run, dataset, tmp_path):
    for name in ("experiment.yaml", "log.jsonl", "run.json"):
        shutil.copy(whole_run / name, tmp_path)
    assert train(experiment(), dataset, tmp_path).finished
    assert same_state(whole_run / "last.safetensors", tmp_path / "last.safetensors") == []


def test_a_loss_that_is_not_finite_names_its_images(dataset, tmp_path, monkeypatch):
    calls = iter([1.0, 1.0, math.nan])

    def broken(config, ignore, align_corners):
        return lambda main, *rest: Losses(main.sum() * 0 + next(calls), {"main": torch.zeros(())})

    monkeypatch.setattr("crisscross.losses.create_loss", broken)
    with pytest.raises(CrissCrossError, match=r"loss became nan at iteration 3 with the images p\d\d, p\d\d"):
        train(experiment("train.checkpoint_every=2"), dataset, tmp_path / "run")
    assert native.read(tmp_path / "run" / "last.safetensors")[2]["position"]["iteration"] == 2


def test_precision_is_chosen_run_by_run(dataset, tmp_path):
    short = ("train.iterations=2", "train.validate_every=0", "train.checkpoint_every=0")
    losses = {}
    for precision in ("fp32", "bf16"):
        train(experiment(*short, f"train.precision={precision}"), dataset, tmp_path / precision, Machine(device="cpu"))
        losses[precision] = [entry["loss"] for entry in read_log(tmp_path / precision) if "loss" in entry]
    # The same images and weights, rounded to eight bits: near, but not the same.
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
    assert losses["bf16"] != losses["fp32"]
    with pytest.raises(CrissCrossError, match=r"train\.precision=fp16 is not available on this device"):
        train(experiment(*short, "train.precision=fp16"), dataset, tmp_path / "fp16", Machine(device="cpu"))


def test_tensorboard_files_on_request(dataset, tmp_path):
    pytest.importorskip("tensorboard")
    train(experiment("train.iterations=2"), dataset, tmp_path / "run", Machine(track=("tensorboard",)))
    assert list((tmp_path / "run").rglob("events.out.tfevents.*"))


def test_classes_must_fit_the_data(dataset, whole_run, tmp_path):
    with pytest.raises(CrissCrossError, match=r"data\.classes names 2 classes .* has 3"):
        train(experiment("data.classes=[a, b]"), dataset, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_backbone_weights_from_a_file(dataset, tmp_path):
    import timm

    torch.manual_seed(3)
    weights = timm.create_model("test_resnet").state_dict()
    save_file(weights, tmp_path / "net.safetensors")
    frozen = "model.frozen=[conv1, bn1, layer1, layer2, layer3, layer4]"
    changes = (frozen, "train.iterations=1", "model.pretrained=true")
    train(experiment(*changes), dataset, tmp_path / "run", backbone_weights=tmp_path / "net.safetensors")
    kept = load(tmp_path / "run").backbone.net.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in kept.items())
    (tmp_path / "bad.safetensors").write_bytes(b"\x10")
    with pytest.raises(CrissCrossError, match=r"bad\.safetensors: not a readable safetensors file"):
        train(experiment(), dataset, tmp_path / "bad", backbone_weights=tmp_path / "bad.safetensors")


# From here on the command itself, in a process of its own where signals or limits need one.


def command(folder: Path, out: Path, *more: str) -> list[str]:
    config = out.parent / "tiny.yaml"
    config.write_text(json.dumps(EXPERIMENT))
    words = ["train", str(config), "--data", str(folder), "--out", str(out), "--workers", "0"]
    return [sys.executable, "-m", "crisscross", *words, *more]


# So many iterations that the signal always comes before the end.
LONG = ("--set", "train.iterations=100000", "--set", "train.checkpoint_every=1", "--set", "train.validate_every=0")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_saves_and_says_how_to_go_on(number, code, folder, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(folder, out, *LONG, "--workers", "1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until((out / "last.safetensors").exists, process)
    os.killpg(process.pid, number)
    stdout, stderr = process.communicate(timeout=HANGS)
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    position = native.read(out / "last.safetensors")[2]["position"]
    assert f"stopped after iteration {position['iteration']};" in stdout
    assert f"  crisscross train --resume {out}\n" in stdout


def test_kill_at_any_moment_and_resume_gives_the_same_bits(whole_run, folder, tmp_path):
    every = ("--set", "train.checkpoint_every=1")
    for out in (tmp_path / f"run{number}" for number in range(20)):
        process = subprocess.Popen(command(folder, out, *every), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until((out / "last.safetensors").exists, process)
        process.kill()
        # On a busy machine a short run may end before it is killed: then once more.
        if process.wait() == -signal.SIGKILL:
            break
    assert native.read(out / "last.safetensors")[2]["position"]["iteration"] < 8
    temporary_path(out / "last.safetensors", process.pid).write_text(
        "left behind by a process that was killed while it saved"
    )
    assert main(command(folder, out, *every, "--resume")[3:]) == 0
    assert same_state(whole_run / "last.safetensors", out / "last.safetensors") == []
    assert not list(out.glob(".*"))


def test_a_full_disk_leaves_the_older_checkpoint_whole(folder, tmp_path):
    out = tmp_path / "run"
    short = ("--set", "train.iterations=2", "--set", "train.validate_every=0")
    assert main(command(folder, out, *short)[3:]) == 0
    small = os.path.getsize(out / "last.safetensors") // 2
    before = (out / "last.safetensors").read_bytes()
    (out / "last.safetensors").rename(out / "kept")
    result = subprocess.run(
        command(folder, out, *short),
        capture_output=True,
        text=True,
        timeout=HANGS,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (small, small)),
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr and "cannot be written" in result.stderr.splitlines()[-1]
    assert not (out / "last.safetensors").exists()
    assert (out / "kept").read_bytes() == before
    assert not [path for path in out.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "camvid-lite", "--data", "x", "--out", "y"], "no recipe 'camvid-lite'; did you mean camvid-light"),
        (["train", "demo", "--data", "nowhere", "--out", "y"], "nowhere: no such folder"),
        (["train", "demo", "--data", "x", "--out", "y", "--set", "optm.lr=1"], "unknown key optm; did you mean optim?"),
        (
            ["train", "demo", "--data", "x", "--out", "y", "--set", "model.head.recurrence=-1"],
            "model.head.recurrence must be at least 0, got -1",
        ),
        (["train", "none.yaml", "--data", "x", "--out", "y"], "none.yaml: cannot be read"),
        (
            ["evaluate", "nothing", "--data", "."],
            "nothing: no such file or run folder, and no model of that name (camvid-light; `crisscross zoo` lists",
        ),
        (["predict", "nothing", "missing.jpg"], "missing.jpg: no such file or folder"),
        (["predict", "ccnet-r50", "README.md"], ""),
    ],
)
def test_bad_input_is_one_line_and_exit_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("not an image")
    assert main(words) == 2
    captured = capsys.readouterr().err.strip()
    assert captured.startswith("crisscross: ") and message in captured
    assert captured.count("\n") == 0


def test_evaluate_and_predict_from_the_command_line(whole_run, folder, tmp_path, capsys):
    scores = tmp_path / "scores.json"
    assert main(["evaluate", str(whole_run), "--data", str(folder), "--split", "val", "--json", str(scores)]) == 0
    facts = json.loads(scores.read_text())
    counted = np.array(facts["confusion"])
    assert facts["images"] == 3 and counted.sum() == 3 * 63 * 80
    # The definition of mIoU, from the counts alone.
    ious = [counted[k, k] / (counted[k].sum() + counted[:, k].sum() - counted[k, k]) for k in range(3)]
    assert facts["miou"] == pytest.approx(np.mean(ious), abs=1e-12)
    (tmp_path / "in").mkdir()
    Image.open(folder / "images" / "p01.png").save(tmp_path / "in" / "good.jpg")
    (tmp_path / "in" / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    assert main(["predict", str(whole_run), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert "bad.jpg" in captured.err and "predicted 1 of 2: " in captured.out
    labels = np.asarray(Image.open(tmp_path / "out" / "labels" / "good.png"))
    assert np.array_equal(labels, load(whole_run).predict(tmp_path / "in" / "good.jpg").labels)
    assert np.asarray(Image.open(tmp_path / "out" / "overlay" / "good.png")).shape == (64, 80, 3)
    evaluated = ["evaluate", str(whole_run), "--data", str(folder), "--split", "val", "--optimize"]
    assert main([*evaluated, "--json", str(scores)]) == 0
    assert json.loads(scores.read_text())["miou"] == pytest.approx(facts["miou"], abs=1e-3)
    image = str(tmp_path / "in" / "good.jpg")
    assert main(["predict", "--optimize", str(whole_run), image, "--out", str(tmp_path / "fast")]) == 0
    assert (np.asarray(Image.open(tmp_path / "fast" / "labels" / "good.png")) == labels).mean() > 0.999


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_truncated_image_is_one_line_from_any_process(whole_run, folder, tmp_path, capsys, workers):
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    image = data / "images" / "p10.png"
    image.write_bytes(image.read_bytes()[:2000])
    assert main(["evaluate", str(whole_run), "--data", str(data), "--split", "val", "--workers", workers]) == 2
    assert multiprocessing.active_children() == []
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("evaluate")]
    assert len(lines) == 1
    assert lines[0].startswith(f"crisscross: {image}: cannot be read")


def test_evaluation_refuses_other_classes(whole_run, folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for kind in ("images", "masks", "train.txt", "val.txt"):
        (other / kind).symlink_to(folder / kind)
    (other / "dataset.yaml").write_text("classes: [ground, disc, square, more]\n")
    from crisscross.engine.semantic.evaluate import evaluate

    with pytest.raises(CrissCrossError, match=r"has 4 classes \(.*\), the network 3 \("):
        evaluate(load(whole_run), open_folder(other), "val")


def test_a_truncated_or_foreign_checkpoint_is_refused(whole_run, tmp_path):
    content = (whole_run / "last.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CrissCrossError, match=r"cut\.safetensors: not a readable safetensors file"):
        load(tmp_path / "cut.safetensors")
    torch.save({"state_dict": {"encoder.weight": torch.zeros(2)}}, tmp_path / "foreign.pth")
    with pytest.raises(CrissCrossError, match=r"foreign\.pth: weights of no known system"):
        load(tmp_path / "foreign.pth")
    (tmp_path / "page.pth").write_text("<html>404</html>")
    with pytest.raises(CrissCrossError, match=r"page\.pth: "):
        load(tmp_path / "page.pth")
