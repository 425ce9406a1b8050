"""`crisscross predict` on many images: resumed, and shared by several processes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from coarse_networks import image_of, small_segmenter
from PIL import Image

import crisscross
from crisscross.cli import main
from crisscross.engine.semantic.task import SemanticSegmentation

pytestmark = pytest.mark.usefixtures("one_thread")
COUNT = 9


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    crisscross.save(small_segmenter(), path)
    return path


@pytest.fixture
def predict(weights, tmp_path, monkeypatch):
    """The command, in a folder of its own with images, and how many images the network has seen."""
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    Path("in/more").mkdir(parents=True)
    for number in range(COUNT):
        folder = "in/more" if number % 3 else "in"
        Image.fromarray(image_of(40, 50 + number, number)).save(f"{folder}/{number}.png")
    seen, predictor = [], SemanticSegmentation.predictor

    def counted(self, network, **options):
        own = predictor(self, network, **options)
        return lambda image: seen.append(image.shape[1] - 50) or own(image)

    monkeypatch.setattr(SemanticSegmentation, "predictor", counted)

    def run(*words, out="out"):
        seen.clear()
        return main(["predict", str(weights), "in", "--out", out, "--device", "cpu", *words]), sorted(seen)

    return run


def content(folder: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_a_resumed_run_labels_what_lacks_an_output(predict, weights, capsys):
    assert predict() == (0, list(range(COUNT)))
    whole = content("out")
    assert len(whole) == 3 * COUNT + 1
    labels = np.asarray(Image.open("out/labels/3.png"))
    assert np.array_equal(labels, crisscross.load(weights).predict("in/3.png").labels)
    for path in ("labels/more/1.png", "overlay/3.png", "color/more/5.png"):
        Path("out", path).unlink()
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.png")}
    assert predict("--resume") == (0, [1, 3, 5])
    assert "3 images to label" in capsys.readouterr().out
    assert content("out") == whole
    kept = [path for path, time in before.items() if path.stat().st_mtime_ns == time]
    assert len(kept) == 3 * (COUNT - 3)
    # Nothing is left to do, and a run without the option does all.
    assert predict("--resume") == (0, []) and "0 images to label" in capsys.readouterr().out
    assert predict("--resume", out="fresh") == (0, list(range(COUNT))) and content("fresh") == whole
    assert predict()[1] == list(range(COUNT))


def test_a_list_of_images(weights, predict, tmp_path, monkeypatch, capsys):
    Path("in/list.txt").write_text("0.png\n\nmore/1.png\nmissing.png\n" + str(tmp_path / "in/3.png") + "\n")
    Path("empty.txt").write_text("\n")
    monkeypatch.chdir("/")
    out = tmp_path / "listed"
    words = [str(tmp_path / "in/list.txt"), "--out", str(out), "--device", "cpu"]
    assert main(["predict", str(weights), *words]) == 2
    assert f"{tmp_path / 'in/missing.png'}: " in capsys.readouterr().err
    assert sorted(path.name for path in (out / "labels").iterdir()) == ["0.png", "1.png", "3.png"]
    assert main(["predict", str(weights), str(tmp_path / "empty.txt"), "--out", str(out)]) == 2
    assert f"{tmp_path / 'empty.txt'}: an empty list" in capsys.readouterr().err


def test_a_bad_image_is_tried_again(predict, capsys):
    Path("in/bad.png").write_bytes(b"no image")
    assert predict()[0] == 2
    assert predict("--resume") == (2, [])
    assert "bad.png: not an image" in capsys.readouterr().err
    shutil.copy("in/3.png", "in/bad.png")
    assert predict("--resume") == (0, [3])


@pytest.mark.parametrize("names", [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")])
def test_processes_label_each_image_once(predict, names, monkeypatch, capsys):
    assert predict(out="alone")[0] == 0
    everything = []
    # The first, which writes what all share, may be the last to end.
    for rank in (1, 3, 2, 0):
        monkeypatch.setenv(names[0], str(rank))
        monkeypatch.setenv(names[1], "4")
        code, seen = predict()
        assert code == 0 and 2 <= len(seen) <= 3
        assert f"{len(seen)} images to label (process {rank + 1} of 4)" in capsys.readouterr().out
        assert Path("out/classes.json").exists() == (rank == 0)
        everything += seen
    assert sorted(everything) == list(range(COUNT))
    assert content("out") == content("alone")
    # Each resumes its own.
    Path("out/labels/0.png").unlink()
    found = []
    for rank in range(4):
        monkeypatch.setenv(names[0], str(rank))
        found.append(predict("--resume"))
    assert sorted(seen for _, seen in found) == [[], [], [], [0]] and content("out") == content("alone")


def test_more_processes_than_images(predict, monkeypatch):
    monkeypatch.setenv("RANK", "9")
    monkeypatch.setenv("WORLD_SIZE", "10")
    assert predict() == (0, []) and not Path("out").exists()


def test_big_images_are_shared_too(predict, monkeypatch, capsys):
    assert main(["predict", "camvid-light", "x.png", "--resume"]) == 2
    assert predict("--big")[0] == 0
    whole = content("out")
    Path("out/labels/3.png").unlink()
    capsys.readouterr()
    assert predict("--big", "--resume")[0] == 0
    assert "1 images to label" in capsys.readouterr().out and content("out") == whole


@pytest.mark.parametrize(("name", "file"), [("coco", "coco.json"), ("csv", "fractions.csv")])
def test_files_of_all_images_need_one_run(predict, name, file, monkeypatch, capsys):
    assert predict("--resume", "--format", name)[0] == 2
    assert f"--resume is for files of single images; {file} holds all of them" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert predict("--format", f"png,{name}")[0] == 2
    assert f"the work of 2 processes is for files of single images; {file}" in capsys.readouterr().err
    assert predict("--format", "polygons,rle")[0] == 0
    assert not Path("out/labels").exists() and len(list(Path("out/rle").rglob("*.json"))) == 5
