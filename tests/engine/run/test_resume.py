"""A run that goes on otherwise than it began: longer, with another batch or crop, or by its folder alone."""

import json

import pytest
from shapes_data import experiment, write_shapes

from crisscross.checkpoints import native
from crisscross.cli import main
from crisscross.config import to_yaml
from crisscross.data import open_folder
from crisscross.engine.run.log import read_log
from crisscross.engine.run.record import last_start
from crisscross.engine.schedule import learning_rate
from crisscross.engine.train import train
from crisscross.errors import CrissCrossError

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ("train.iterations=3", "train.batch=2", "train.checkpoint_every=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture
def run(folder, tmp_path):
    (tmp_path / "tiny.yaml").write_text(to_yaml(experiment(*SMALL)))
    words = ["train", str(tmp_path / "tiny.yaml"), "--data", str(folder), "--out", str(tmp_path / "run")]
    assert main([*words, "--workers", "0", "--device", "cpu"]) == 0
    return tmp_path / "run"


def go_on(run, *words):
    return main(["train", "--resume", str(run), *(part for word in words for part in ("--set", word))])


def test_a_finished_run_gets_a_new_end(run, capsys):
    capsys.readouterr()
    assert go_on(run, "train.iterations=6") == 0
    line = (
        "this run goes on with train.iterations=6 (was 3); the learning rate follows the schedule with its new end; "
        "the result differs from that of a run with these values from the start"
    )
    assert capsys.readouterr().err.count(line) == 1
    rates = {entry["iteration"]: entry["lr"] for entry in read_log(run) if "loss" in entry}
    assert list(rates) == [1, 2, 3, 4, 5, 6]
    optim = experiment(*SMALL).optim
    for iteration in (4, 5, 6):
        assert rates[iteration] == pytest.approx(learning_rate(optim, iteration - 1, 6))
    assert rates[3] == pytest.approx(learning_rate(optim, 2, 3))
    header = native.read_header(run / "last.safetensors")
    assert header[0].train.iterations == 6 and header[1]["position"]["iteration"] == 6
    # From now on it is a run of six iterations.
    assert go_on(run) == 0
    assert "this run goes on with" not in capsys.readouterr().err


def test_an_end_before_the_place_where_it_stands_is_refused(run, capsys):
    before = (run / "last.safetensors").read_bytes()
    assert go_on(run, "train.iterations=2") == 2
    assert "train.iterations must be at least 3, where the run in" in capsys.readouterr().err
    assert (run / "last.safetensors").read_bytes() == before


def test_batch_and_crop_may_change_which_is_said(run, capsys):
    assert go_on(run, "train.iterations=4", "train.batch=4", "augment.crop=[32, 32]") == 0
    shown = capsys.readouterr().err
    assert "augment.crop=[32, 32] (was [48, 48])" in shown and "train.batch=4 (was 2)" in shown
    assert native.read_header(run / "last.safetensors")[0].augment.crop == (32, 32)


@pytest.mark.parametrize(
    "word", ["optim.lr=0.5", "model.head.recurrence=1", "train.seed=3", "preprocess.mean=[9, 9, 9]"]
)
def test_other_values_stay_refused(run, word, capsys):
    assert go_on(run, "train.iterations=4", word) == 2
    key = word.partition("=")[0]
    assert f"cannot resume with another experiment; it differs in {key};" in capsys.readouterr().err


def test_how_often_it_validates_changes_no_result(run, capsys):
    assert go_on(run, "train.checkpoint_every=2") == 0
    assert "this run goes on with" not in capsys.readouterr().err


def test_the_folder_says_all_the_rest(run, folder):
    found = last_start(run)
    assert found == {
        "data": str(folder),
        "workers": 0,
        "device": "cpu",
        "track": [],
        "compile": False,
        "cache": "",
        "shard": False,
        "per_class": False,
    }
    record = json.loads((run / "run.json").read_text())
    # Records of before `--device` said `cpu`.
    record["starts"][-1]["machine"] = {"workers": "many", "cpu": True}
    del record["data"]["root"]
    (run / "run.json").write_text(json.dumps(record))
    assert last_start(run) == {"device": "cpu"}


def test_what_the_command_says_comes_before_the_record(run):
    record = json.loads((run / "run.json").read_text())
    record["starts"][-1]["machine"]["workers"] = 1
    (run / "run.json").write_text(json.dumps(record))
    assert main(["train", "--resume", str(run), "--workers", "0", "--set", "train.iterations=4"]) == 0
    assert last_start(run)["workers"] == 0


def test_what_neither_the_command_nor_the_run_says_is_named(run, tmp_path, capsys):
    (run / "run.json").unlink()
    assert go_on(run) == 2
    assert f"{run}: run.json does not say where the data are; add --data DIR" in capsys.readouterr().err
    for words, missing in (
        (["--data", "x", "--out", "y"], "RECIPE"),
        (["demo", "--out", "y"], "--data DIR"),
        (["demo", "--data", "x"], "--out RUN"),
    ):
        assert main(["train", *words]) == 2
        assert f"train: {missing} is missing" in capsys.readouterr().err
    for name, said in (
        ("none", "no such folder; give the one that --out named"),
        ("rum", f"when the training was started; did you mean {run}?"),
        ("run/last.safetensors", f"is a file; give the run's folder: --resume {run}"),
        (".", "last.safetensors is not there, so nothing was saved yet; start the training with `crisscross train"),
    ):
        assert main(["train", "--resume", str(tmp_path / name), "--data", "x"]) == 2
        assert (line := capsys.readouterr().err).startswith(f"crisscross: --resume {tmp_path / name}") and said in line
    assert main(["train", "demo", "--data", "x", "--out", "a", "--resume", "b"]) == 2
    assert "--resume b and --out a are two runs: give one of them" in capsys.readouterr().err


def test_the_option_before_the_recipe_is_the_option_alone(run, folder, tmp_path, capsys):
    words = ["--data", str(folder), "--out", str(run), "--set", "train.iterations=4"]
    words += ["--device", "cpu", "--workers", "0"]
    assert main(["train", "--resume", str(tmp_path / "tiny.yaml"), *words]) == 0
    assert native.read_header(run / "last.safetensors")[0].train.iterations == 4


def test_a_run_that_took_its_colors_from_weights_keeps_them(run, folder, tmp_path, capsys):
    changes = (*SMALL, "preprocess.mean=[1, 2, 3]")
    data = open_folder(folder)
    with pytest.raises(ZeroDivisionError):
        train(experiment(*changes), data, tmp_path / "new", init=run, listener=lambda step: 1 // (2 - step.iteration))
    stored = native.read_header(tmp_path / "new" / "last.safetensors")[0]
    assert stored.preprocess.mean == (123.675, 116.28, 103.53)
    assert train(experiment(*changes), data, tmp_path / "new", resume=True).finished
    assert "this run keeps the preprocess.mean, std and order that it began with" in capsys.readouterr().err
    kept = experiment(*changes)
    # What the user has set himself stays.
    train(kept, data, tmp_path / "own", init=run, chosen=["preprocess.mean"])
    assert native.read_header(tmp_path / "own" / "last.safetensors")[0].preprocess.mean == (1, 2, 3)
    with pytest.raises(CrissCrossError, match=r"differs in preprocess\.mean"):
        train(kept, data, tmp_path / "new", resume=True, chosen=["preprocess.mean"])
