"""`crisscross.train`: what it takes, what it returns, and that it leaves the process as it was."""

import os
import signal
import threading
import warnings

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from shapes_data import EXPERIMENT, experiment, write_shapes

import crisscross
from crisscross.api.training import default_workers
from crisscross.cli import main
from crisscross.config import to_yaml

HERE = {"device": "cpu", "workers": 0, "progress": False}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return str(write_shapes(tmp_path_factory.mktemp("data") / "shapes"))


def weights(run):
    return crisscross.load(run / "last.safetensors").state_dict()


def equal(first, second):
    first, second = weights(first), weights(second)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_it_trains_what_the_command_trains(shapes, tmp_path, capsys):
    file = tmp_path / "tiny.yaml"
    file.write_text(to_yaml(experiment()))
    words = ["--data", shapes, "--out", str(tmp_path / "command"), "--workers", "0", "--device", "cpu"]
    assert main(["train", str(file), *words, "--set", "optim.lr=0.02", "--set", "train.iterations=3"]) == 0
    said = capsys.readouterr()
    run = crisscross.train(str(file), shapes, str(tmp_path / "function"), lr=0.02, iterations=3, **HERE)
    assert equal(run.folder, tmp_path / "command")
    assert f"best validation mIoU {run.best_score:.4f} at iteration {run.best_iteration}" in said.out
    assert run.finished and run.iteration == run.best_iteration == 3 and run.title == "mIoU" and not run.code
    assert str(run.data) == shapes and run.load().classes == ("ground", "disc", "square")
    assert capsys.readouterr() == ("", "")


def test_recipes_and_data_of_every_kind_with_changes_of_every_kind(shapes, tmp_path):
    plain = crisscross.train(experiment("optim.lr=0.03", "train.iterations=1"), shapes, tmp_path / "a", **HERE)
    opened = crisscross.open_dataset("auto", shapes)
    ways = [{"lr": 0.03}, {"optim": {"lr": 0.03}}, {"optim.lr": 0.03}]
    for number, way in enumerate(ways):
        run = crisscross.train(experiment(), opened, tmp_path / str(number), **way, iterations=1, **HERE)
        assert equal(run.folder, plain.folder)


def test_it_goes_on_as_if_it_had_never_stopped(shapes, tmp_path):
    whole = crisscross.train(experiment(), shapes, tmp_path / "whole", iterations=5, **HERE)
    before = weights(whole.folder)
    crisscross.train(experiment(), shapes, str(tmp_path / "part"), iterations=5, **HERE)
    longer = crisscross.train(resume=str(tmp_path / "part"), iterations=8, progress=False)
    assert longer.iteration == 8 and longer.finished
    again = crisscross.train(resume=True, out=tmp_path / "whole", iterations=8, progress=False)
    assert equal(again.folder, longer.folder)
    assert any(not torch.equal(value, before[key]) for key, value in weights(again.folder).items())


def test_what_is_wrong_is_one_line(shapes, tmp_path):
    def refused(text, *given, **options):
        with pytest.raises(crisscross.CrissCrossError, match=text):
            crisscross.train(*given, **{**HERE, **options})

    refused(r"train: RECIPE is missing")
    refused(r"train: --data DIR is missing", experiment(), out=tmp_path / "run")
    refused(r"no recipe 'demmo'; did you mean demo", "demmo", shapes, tmp_path / "run")
    refused(r"unknown key iteration; did you mean train\.iterations\?", experiment(), shapes, "run", iteration=3)
    refused(r"'name' is ambiguous|must be text", experiment(), shapes, tmp_path / "run", name=3)
    refused(r"a recipe must be a name .* got 7", 7, shapes, tmp_path / "run")
    refused(r"is the data set's own folder", experiment(), shapes, f"{shapes}/../shapes")
    refused(r"are two runs", resume=tmp_path / "a", out=tmp_path / "b")
    refused(r"--init fills the whole network", experiment(), shapes, "run", init="a", backbone_weights="b")
    refused(r"device", experiment(), shapes, tmp_path / "run", device="gpu")
    assert not (tmp_path / "run").exists()


def global_state():
    shared = [dict(kind._shared_state) for kind in (PartialState, AcceleratorState, GradientState)]
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    ours = {key: value for key, value in os.environ.items() if key.startswith(("ACCELERATE", "CUBLAS", "CRISSCROSS"))}
    precisions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    repeating = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    settings = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.initial_seed()
    numbers = torch.get_rng_state().tolist()
    return [shared, handlers, ours, precisions, repeating, settings, numbers, list(warnings.filters)]


def test_the_process_is_as_before(shapes, tmp_path):
    torch.manual_seed(5)
    PartialState()
    before = global_state()
    crisscross.train(experiment("train.deterministic=true"), shapes, tmp_path / "run", iterations=1, **HERE)
    for former, now in zip(before, global_state(), strict=True):
        assert now == former
    # Also where it fails.
    with pytest.raises(crisscross.CrissCrossError):
        crisscross.train(experiment("train.deterministic=true"), shapes, tmp_path / "run", **HERE)
    assert global_state() == before


def test_a_thread_trains_the_same(shapes, tmp_path):
    found = []

    def work():
        found.append(crisscross.train(experiment(), shapes, tmp_path / "thread", **{**HERE, "workers": 1}))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0].finished
    assert equal(found[0].folder, crisscross.train(experiment(), shapes, tmp_path / "main", **HERE).folder)


def test_workers_are_started_by_default_where_that_runs_no_script_again(monkeypatch):
    for method, count in (("fork", 2), ("spawn", 0), ("forkserver", 0)):
        monkeypatch.setattr("crisscross.api.training.get_start_method", lambda allow_none, method=method: method)
        assert default_workers() == count


def test_the_tiny_experiment_has_a_mean_of_its_own(tmp_path, shapes):
    file = tmp_path / "own.yaml"
    file.write_text(f"model: {EXPERIMENT['model']}\n")
    run = crisscross.train(file, shapes, tmp_path / "run", iterations=1, batch=2, crop=[48, 48], warmup=0, **HERE)
    assert run.load().experiment.preprocess.mean == (127.5,) * 3
