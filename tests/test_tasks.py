"""Tasks by name: which are known, and code from outside that runs only where the user trusts it."""

import json
import shutil
import sys

import pytest
from paths import ROOT

import crisscross
from crisscross import tasks
from crisscross.checkpoints.writing import write_safetensors
from crisscross.cli import main
from crisscross.engine.task import Task
from crisscross.errors import CrissCrossError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_each_task_keeps_the_contract():
    for name in tasks.TASKS:
        task = tasks.task(name)
        assert Task in type(task).__mro__ and task.name == name
        experiment = task.experiment()
        assert (experiment.optim.clip, experiment.train.ema, getattr(experiment, "task", name)) == (0.0, 0.0, name)
        assert all(column.startswith("val_") for column in task.columns)
        assert tasks.task_of_data("nonsense") is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("segmentatoin", "no task segmentatoin; did you mean segmentation"),
        ("nowhere:Task", "task nowhere:Task: cannot be imported"),
        ("os:getcwd", "task os:getcwd: must be a class with"),
    ],
)
def test_an_unknown_task_is_named(name, said):
    with pytest.raises(CrissCrossError, match=said):
        tasks.task(name)


def test_every_option_and_command_is_refused_with_its_reason():
    refuses = {"cache": "is not available: a reason", "benchmark": "measures others"}
    task = type("Refusing", (), {"refuses": refuses})()
    tasks.refuse(task, {"cache": "", "shard": True})
    for options, command, said in (
        ({"cache": "ram"}, "", "--cache is not available: a reason"),
        ({"cache": 0}, "", "--cache is not available: a reason"),
        ({}, "benchmark", "benchmark measures others"),
    ):
        with pytest.raises(CrissCrossError, match=said):
            tasks.refuse(task, options, command)


def test_weights_of_a_task_from_outside_run_code_only_where_they_are_trusted(tmp_path, monkeypatch, capsys):
    shutil.copy(ROOT / "examples" / "own_task.py", tmp_path / "trusted_task.py")
    text = (tmp_path / "trusted_task.py").read_text().replace("own_task:", "trusted_task:")
    (tmp_path / "trusted_task.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes.yaml").write_text("task: trusted_task:Classification\ntrain: {iterations: 2, batch: 4}\n")
    words = ["--data", str(tmp_path), "--cpu", "--workers", "0"]
    assert main(["train", "shapes.yaml", *words, "--out", "run"]) == 0
    assert "--trust run" in capsys.readouterr().out
    sys.modules.pop("trusted_task")
    assert main(["evaluate", "run", *words]) == 2
    assert "refused: it asks to run code, task=trusted_task:Classification" in capsys.readouterr().err
    with pytest.raises(CrissCrossError, match="refused: it asks to run code"):
        crisscross.load("run/last.safetensors")
    assert "trusted_task" not in sys.modules
    assert main(["evaluate", "run", *words, "--trust", "run", "--json", "scores.json"]) == 0
    assert 0 <= json.loads((tmp_path / "scores.json").read_text())["accuracy"] <= 1


def test_a_file_cannot_name_a_task_that_is_not_one(tmp_path):
    header = {"format": "crisscross-1", "experiment": json.dumps({"task": "os:system"}), "facts": "{}"}
    write_safetensors(tmp_path / "odd.safetensors", {}, header)
    with pytest.raises(CrissCrossError, match="refused: it asks to run code, task=os:system"):
        crisscross.load(tmp_path / "odd.safetensors")
