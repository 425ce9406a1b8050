"""Tasks by name: which are known, and code from outside that runs only where the user trusts it."""

import json
import shutil
import sys
from dataclasses import dataclass, field, make_dataclass
from types import SimpleNamespace

import pytest
from paths import ROOT

import crisscross
from crisscross import tasks
from crisscross.checkpoints.writing import write_safetensors
from crisscross.cli import main
from crisscross.config import DataConfig, Experiment, OptimConfig, TrainConfig
from crisscross.engine.run.state import stored_experiment
from crisscross.engine.task import Task, refused_except
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
    task = SimpleNamespace(name="mine:Task", refuses=refuses)
    tasks.refuse(task, {"cache": "", "shard": True})
    for options, command, said in (
        ({"cache": "ram"}, "", "--cache is not available: a reason"),
        ({"cache": 0}, "", "--cache is not available: a reason"),
        ({}, "benchmark", "run is of the task mine:Task; benchmark measures others"),
    ):
        with pytest.raises(CrissCrossError, match=said):
            tasks.refuse(task, options, command, "run")


@dataclass(frozen=True)
class Own:
    task: str = f"{__name__}:Complete"
    name: str = "own"
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


class Complete(Task):
    name, title, experiment, columns = f"{__name__}:Complete", "error", Own, ("val_error",)
    open = settle = build = samples = losses = evaluate = predictor = lambda self, *given: None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settle": Task.settle}, "must define the method `settle`"),
        ({"evaluate": None}, "must define the method `evaluate`"),
        ({"experiment": None}, "`experiment` must be a dataclass, got None"),
        ({"experiment": make_dataclass("Other", ["task", "name", "data", "train"])}, "must have the field `optim`"),
        ({"experiment": Experiment}, "must have the field `task`"),
        ({"name": "else:Task"}, "`name` must be '.*:Complete', got 'else:Task'"),
        (
            {"experiment": make_dataclass("Odd", [("task", str, "else:Task")], bases=(Own,), frozen=True)},
            "the default of `experiment.task` must be '.*:Complete', got 'else:Task'",
        ),
    ],
)
def test_a_task_that_lacks_something_is_named_in_one_line(monkeypatch, changes, said):
    complete = Complete.name
    assert isinstance(tasks.task(complete), Complete)
    for name, value in changes.items():
        monkeypatch.setattr(Complete, name, value)
    with pytest.raises(CrissCrossError, match=f"^task {complete}: .*{said}"):
        tasks.task(complete)


@pytest.mark.parametrize(
    ("source", "said"),
    [(None, "must be a name, a path or a state dict, got None"), ("", "got ''"), ("x" * 300, "File name too long")],
)
def test_what_names_no_network_is_one_line(source, said):
    with pytest.raises(CrissCrossError, match=said):
        crisscross.load(source)


def test_a_task_without_a_title_is_named(monkeypatch):
    monkeypatch.delattr(Complete, "title")
    with pytest.raises(CrissCrossError, match="must define the attribute `title`"):
        tasks.task(Complete.name)


def test_a_task_from_outside_refuses_what_it_has_not_asked_for():
    for option in ("init", "backbone_weights", "tta"):
        with pytest.raises(CrissCrossError, match=f"--{option.replace('_', '-')} is not available for this task"):
            tasks.refuse(Complete(), {option: True})
    for command in ("benchmark", "convert"):
        with pytest.raises(CrissCrossError, match=f"run is of the task .*; {command} handles semantic segmentation"):
            tasks.refuse(Complete(), {}, command, "run")
    tasks.refuse(SimpleNamespace(name="", refuses=refused_except("init")), {"init": "run", "compile": True})


def test_weights_of_a_task_from_outside_run_code_only_where_they_are_trusted(tmp_path, monkeypatch, capsys):
    shutil.copy(ROOT / "examples" / "own_task.py", tmp_path / "trusted_task.py")
    text = (tmp_path / "trusted_task.py").read_text().replace("own_task:", "trusted_task:")
    (tmp_path / "trusted_task.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes.yaml").write_text("task: trusted_task:Classification\ntrain: {iterations: 2, batch: 4}\n")
    words = ["--data", str(tmp_path), "--device", "cpu", "--workers", "0"]
    assert main(["train", "shapes.yaml", *words, "--out", "run"]) == 0
    assert "--trust run" in capsys.readouterr().out
    sys.modules.pop("trusted_task")
    assert main(["evaluate", "run", *words]) == 2
    assert "refused: it asks to run code, task=trusted_task:Classification" in capsys.readouterr().err
    with pytest.raises(CrissCrossError, match="refused: it asks to run code"):
        crisscross.load("run/last.safetensors")
    assert "trusted_task" not in sys.modules
    assert main(["evaluate", "run", *words, "--trust", "run", "--json", "scores.json"]) == 0
    assert main(["evaluate", "run", *words, "--trust", "run", "--split", "tset"]) == 2
    assert "no split 'tset'; this data set has train, val" in capsys.readouterr().err
    for command, said in (
        (["evaluate", "run", *words, "--tta"], "--tta is not available for this task"),
        (["predict", "run", "x.png", "--big"], "--big is not available for this task"),
        (["convert", "run", "x.safetensors"], "run is of the task trusted_task:Classification; convert handles"),
        (["benchmark", "run"], "run is of the task trusted_task:Classification; benchmark handles"),
    ):
        assert main([*command, "--trust", "run"]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(CrissCrossError, match=r"last\.safetensors: this is an experiment of the task trusted_t"):
        stored_experiment(Experiment, tmp_path / "run")
    assert 0 <= json.loads((tmp_path / "scores.json").read_text())["accuracy"] <= 1


def test_a_file_cannot_name_a_task_that_is_not_one(tmp_path):
    header = {"format": "crisscross-1", "experiment": json.dumps({"task": "os:system"}), "facts": "{}"}
    write_safetensors(tmp_path / "odd.safetensors", {}, header)
    with pytest.raises(CrissCrossError, match="refused: it asks to run code, task=os:system"):
        crisscross.load(tmp_path / "odd.safetensors")


@pytest.mark.parametrize(
    ("changes", "warmup", "lines"),
    [
        (["train.iterations=60"], 6, ("optim.warmup: 6, a tenth of the iterations",)),
        ({"train.iterations": 5}, 0, ("optim.warmup: 0, a tenth of the iterations",)),
        (["train.iterations=60", "optim.warmup=50"], 50, ()),
        (["train.iterations=500"], 50, ()),
        ([], 50, ()),
    ],
)
def test_a_shorter_training_has_a_shorter_warmup(changes, warmup, lines):
    found = tasks.recipe("ccnet-light", changes)
    assert (found.experiment.optim.warmup, found.lines) == (warmup, lines)
    assert "optim.warmup" not in found.chosen or warmup == 50


def test_the_warmup_of_an_experiment_of_ones_own_stays(tmp_path):
    experiment = Experiment(optim=OptimConfig(warmup=20))
    (tmp_path / "own.yaml").write_text("optim: {warmup: 20}")
    for source in (experiment, tmp_path / "own.yaml"):
        assert tasks.recipe(source, ["train.iterations=30"]).experiment.optim.warmup == 20
