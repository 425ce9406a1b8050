"""What a training shows first, and what it leaves: a page, and a README whose commands work when they are pasted."""

import os
import re
import shlex
import shutil
import signal

import numpy as np
import pytest
from PIL import Image
from shapes_data import experiment, write_shapes

import crisscross
from crisscross.cli import main
from crisscross.config import to_yaml
from crisscross.data import open_folder
from crisscross.engine.run.log import read_log
from crisscross.engine.semantic.task import SemanticSegmentation
from crisscross.engine.setup import Machine
from crisscross.engine.train import train

pytestmark = pytest.mark.usefixtures("one_thread")

CHANGES = ("train.iterations=2", "train.batch=2", "train.validate_every=1", "train.seed=3")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `data`, `tiny.yaml` and `run`, which was trained there."""
    place = tmp_path_factory.mktemp("place")
    write_shapes(place / "data", train=5, val=8)
    (place / "tiny.yaml").write_text(to_yaml(experiment(*CHANGES)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        words = ["train", "tiny.yaml", "--data", "data", "--out", "run", "--workers", "0", "--device", "cpu"]
        assert main(words) == 0
    return place


def test_what_is_trained_is_said_first(place, tmp_path, capsys):
    words = ["train", str(place / "tiny.yaml"), "--data", str(place / "data"), "--out", str(tmp_path / "run")]
    assert main([*words, "--workers", "0", "--device", "cpu", "--per-class"]) == 0
    lines = capsys.readouterr().err.splitlines()
    network = crisscross.load(tmp_path / "run")
    count = sum(parameter.numel() for parameter in network.parameters())
    assert re.fullmatch(rf"network  CCNet \(R = 2\) on test_resnet .*, {count / 1e6:.2f} M parameters", lines[0])
    assert re.fullmatch(rf"device   cpu, 1 of {os.cpu_count()} threads", lines[1])
    assert lines[2] == f"images   5 train, 8 val (folder: {place / 'data'})"
    assert lines[3] == "classes  3: ground, disc, square"
    assert lines[4] == "training 2 iterations of 2 images, 0.80 epochs"
    # `--per-class`: the table of each validation.
    tables = [number for number, line in enumerate(lines) if line.startswith("validation after iteration ")]
    assert [lines[number].split()[-1] for number in tables] == ["1", "2"]
    scored = [entry["val_iou"] for entry in read_log(tmp_path / "run") if "val_iou" in entry]
    for number, iou in zip(tables, scored, strict=True):
        assert lines[number + 1].split() == ["class", "(percent)", "IoU", "accuracy", "pixels"]
        assert [float(line.split()[1]) for line in lines[number + 2 : number + 5]] == pytest.approx(
            [100 * value for value in iou], abs=0.006
        )


def test_the_page_shows_the_worst_and_the_best_images(place):
    page = (place / "run" / "report.html").read_text(encoding="utf-8")
    data, network = open_folder(place / "data"), crisscross.load(place / "run")
    scores = {}
    for pair in data.split("val"):
        truth = np.asarray(Image.open(pair.mask))
        valid = truth != 255
        found = network.predict(np.array(Image.open(pair.image))).labels
        pairs = [((truth == k) & valid, (found == k) & valid) for k in range(3)]
        scores[pair.name] = np.mean([(t & f).sum() / (t | f).sum() for t, f in pairs if (t | f).any()])
    ranked = sorted(scores, key=scores.get)
    assert re.findall(r"<h3>worst: (\w+), mIoU", page) == ranked[:3]
    assert re.findall(r"<h3>best: (\w+), mIoU", page) == ranked[:-4:-1]
    assert [float(value) for value in re.findall(r"<h3>worst: \w+, mIoU ([\d.]+)", page)] == pytest.approx(
        [scores[name] for name in ranked[:3]], abs=6e-4
    )
    for section in ("Training", "Classes", "Confusion", "Images", "To repeat it"):
        assert f"<h2>{section}</h2>" in page
    assert "Learning rate" in page and page.count("<img") == 6 * 4
    assert not re.search(r"https?://|<script|<link|src=\"(?!data:)", page)


def test_the_commands_of_the_readme_work_when_they_are_pasted(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    text = (place / "run" / "README.md").read_text(encoding="utf-8")
    shell, program = re.findall(r"^```(?:python)?\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    commands = [shlex.split(line) for line in shell.splitlines() if not line.startswith("#")]
    assert [words[:2] for words in commands] == [
        ["crisscross", verb] for verb in ("predict", "evaluate", "train", "train")
    ]
    shutil.copytree(place / "run", place / "kept")
    for words in commands:
        assert main(words[1:]) == 0, words
    assert (place / "run-predictions" / "overlay").is_dir() and (place / "run-tuned" / "best.safetensors").is_file()
    assert "| 1 | disc |" in text and "## License of the weights" in text
    capsys.readouterr()
    exec(program, {})
    assert re.fullmatch(r"(ground|disc|square) \d+%.*\n", capsys.readouterr().out)
    shutil.rmtree(place / "run")
    (place / "kept").rename(place / "run")


def test_the_same_readme_fine_tunes_on_other_classes(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    other = write_shapes(tmp_path / "other", train=3, val=2)
    (other / "dataset.yaml").write_text("classes: [floor, disc, hole]\n")
    text = (place / "run" / "README.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if "--init" in line]
    words = shlex.split(line)[1:]
    words[words.index("--data") + 1], words[words.index("--out") + 1] = str(other), str(tmp_path / "tuned")
    assert main([*words, "--device", "cpu"]) == 0
    assert crisscross.load(tmp_path / "tuned").classes == ("floor", "disc", "hole")


def test_a_resumed_run_has_its_page_though_its_best_validation_was_before(place, tmp_path, capsys):
    data = open_folder(place / "data")
    never = ("optim.lr=1e-9", "optim.eta_min=0", "train.batch_norm=frozen")
    chosen = experiment(*CHANGES, *never, "train.checkpoint_every=1")
    with pytest.raises(ZeroDivisionError):
        train(chosen, data, tmp_path / "run", listener=lambda step: 1 // (2 - step.iteration))
    assert not (tmp_path / "run" / "report.html").exists()
    outcome = train(chosen, data, tmp_path / "run", resume=True)
    # What does not learn gets no better.
    assert outcome.position.best_iteration == 1
    assert "<h2>Confusion</h2>" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_nothing_held_out(place, tmp_path, capsys):
    root = write_shapes(tmp_path / "data", train=10, val=0)
    (root / "train.txt").unlink()
    (root / "val.txt").unlink()
    (tmp_path / "tiny.yaml").write_text(to_yaml(experiment(*CHANGES)))
    words = ["train", str(tmp_path / "tiny.yaml"), "--data", str(root), "--workers", "0", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "run"), "--set", "data.val_split=none"]) == 0
    shown = capsys.readouterr()
    assert "images   10 train (folder: " in shown.err and "held out" not in shown.err
    assert shown.err.count("data.val_split=none: nothing is validated, the last weights are the result\n") == 1
    assert f"label images with `crisscross predict {tmp_path / 'run'} PATH`" in shown.out
    assert not (tmp_path / "run" / "best.safetensors").exists() and not (tmp_path / "run" / "split.json").exists()
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Learning rate" in page and "<h2>Confusion</h2>" not in page
    # By the rule two of the ten are held out; these were trained on.
    evaluated = ["evaluate", str(tmp_path / "run"), "--data", str(root), "--workers", "0"]
    assert main(evaluated) == 2
    assert "name the images to score with --split (train)" in capsys.readouterr().err
    assert main([*evaluated, "--split", "train"]) == 0
    assert "(percent; 10 images)" in capsys.readouterr().out
    # Without the key two are.
    assert main([*words, "--out", str(tmp_path / "held")]) == 0
    assert "images   8 train, 2 val (folder: " in capsys.readouterr().err


def test_a_run_is_scored_on_what_it_held_out_though_images_were_added(place, tmp_path, capsys):
    root = write_shapes(tmp_path / "data", train=10, val=0)
    (root / "train.txt").unlink()
    (root / "val.txt").unlink()
    (tmp_path / "tiny.yaml").write_text(to_yaml(experiment(*CHANGES)))
    words = ["train", str(tmp_path / "tiny.yaml"), "--data", str(root), "--workers", "0", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    before = open_folder(root)
    held = {pair.name for pair in before.splits["val"]}
    for number in range(40):
        for kind in ("images", "masks"):
            shutil.copy(root / kind / "p00.png", root / kind / f"new{number}.png")
    by_rule = {pair.name for pair in open_folder(root).splits["val"]}
    trained = {pair.name for pair in before.splits["train"]}
    assert not held <= by_rule or by_rule & trained, "the rule alone would score other images"
    scores = tmp_path / "scores.json"
    found = ["evaluate", str(tmp_path / "run" / "best.safetensors"), "--data", str(root), "--json", str(scores)]
    assert main([*found, "--workers", "0"]) == 0
    scored = set(crisscross.config.documents.read_json(scores)["image_iou"])
    assert held <= scored and not scored & trained


def test_a_stop_during_a_validation_is_told_as_such_and_made_up_for(place, tmp_path, monkeypatch, capsys):
    real, asked = SemanticSegmentation.evaluate, []

    def evaluate(self, network, data, split, options):
        if not asked:
            asked.append(os.kill(os.getpid(), signal.SIGTERM))
        return real(self, network, data, split, options)

    monkeypatch.setattr(SemanticSegmentation, "evaluate", evaluate)
    words = ["train", str(place / "tiny.yaml"), "--data", str(place / "data"), "--out", str(tmp_path / "run")]
    # At the end, where no step is left: the run is not finished all the same.
    assert main([*words, "--workers", "0", "--device", "cpu", "--set", "train.validate_every=0"]) == 143
    run = tmp_path / "run"
    assert (
        f"stopped during validation after iteration 2; {run / 'last.safetensors'} is saved, resuming validates again; "
        f"resume with\n  crisscross train --resume {run}\n"
    ) in capsys.readouterr().out
    assert not (run / "best.safetensors").exists() and not (run / "report.html").exists()
    assert main(["train", "--resume", str(run)]) == 0
    assert (run / "best.safetensors").exists() and (run / "report.html").exists()
    assert [entry["iteration"] for entry in read_log(run)] == [1, 2, 2]


def test_a_page_that_cannot_be_written_costs_no_run(place, tmp_path, monkeypatch, capsys):
    (tmp_path / "run" / "report.html").mkdir(parents=True)
    with pytest.raises(crisscross.CrissCrossError, match=r"report\.html: is there already, and no training wrote it"):
        train(experiment(*CHANGES), open_folder(place / "data"), tmp_path / "run", Machine(device="cpu"))
    (tmp_path / "run" / "report.html").rmdir()

    def fail(*anything):
        raise crisscross.CrissCrossError("p05.png: cannot be read")

    monkeypatch.setattr(SemanticSegmentation, "report", fail)
    assert train(experiment(*CHANGES), open_folder(place / "data"), tmp_path / "run", Machine(device="cpu")).finished
    assert "report.html is not written: p05.png: cannot be read" in capsys.readouterr().err
    assert (tmp_path / "run" / "best.safetensors").exists()
