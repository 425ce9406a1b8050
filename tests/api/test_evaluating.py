"""`crisscross.evaluate`: the same scores for every way to name a network and data, and counts that NumPy repeats."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from small_runs import small_run

import crisscross
from crisscross.cli import main

HERE = {"device": "cpu", "workers": 0, "progress": False}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("small"))


def counted(run):
    """Pixels by (class of the mask, class of the label), one image after the other."""
    counts, network = np.zeros((3, 3), np.int64), run.load()
    for name in (run.data / "val.txt").read_text().split():
        mask = np.array(Image.open(run.data / "masks" / f"{name}.png"))
        labels = network.predict(run.data / "images" / f"{name}.png").labels
        np.add.at(counts, (mask[mask < 255], labels[mask < 255]), 1)
    return counts


def test_scores_follow_from_the_counts(run, capsys):
    result = crisscross.evaluate(run, str(run.data), "val", **HERE)
    assert capsys.readouterr() == ("", "")
    counts = counted(run)
    assert np.array_equal(result.confusion, counts)
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    iou = counts.diagonal() / union
    assert list(result.iou) == ["ground", "disc", "square"] and np.allclose([*result.iou.values()], iou)
    assert result.miou == result.score == pytest.approx(iou.mean())
    assert result.pixel_accuracy == pytest.approx(counts.trace() / counts.sum())
    assert [*result.accuracy.values()] == pytest.approx(counts.diagonal() / counts.sum(1))
    # As text it is what the command prints.
    words = ["--data", str(run.data), "--device", "cpu", "--workers", "0"]
    assert main(["evaluate", str(run.folder), *words]) == 0
    ours, theirs = str(result).splitlines(), capsys.readouterr().out.splitlines()
    assert ours[:4] == theirs[:4] and ours[0].split() == theirs[0].split() and "disc" in ours[2]


def test_every_way_to_name_network_and_data(run):
    wanted = crisscross.evaluate(run, run.data, **HERE).confusion
    network, opened = run.load().train(), crisscross.open_dataset("auto", run.data)
    for source in (str(run.folder), run.folder / "best.safetensors", network, crisscross.predictor(network)):
        for data in (str(run.data), opened):
            found = crisscross.evaluate(source, data, "val", **HERE)
            assert np.array_equal(found.confusion, wanted)
    assert network.training


def test_files_are_written_and_not_replaced(run, tmp_path):
    scores, saved = str(tmp_path / "scores.json"), str(tmp_path / "saved")
    result = crisscross.evaluate(run, run.data, json=scores, save_predictions=saved, **HERE)
    facts = json.loads((tmp_path / "scores.json").read_text())
    assert facts["miou"] == result.miou and facts["precision"] == "fp32"
    assert len(list((tmp_path / "saved").iterdir())) == 3
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(crisscross.CrissCrossError, match=r"other\.json: exists"):
        crisscross.evaluate(run, run.data, json=tmp_path / "other.json", **HERE)
    crisscross.evaluate(run, run.data, json=tmp_path / "other.json", force=True, **HERE)
    assert json.loads((tmp_path / "other.json").read_text())["images"] == 3


def test_a_network_in_memory_runs_no_code_that_its_file_names(run):
    network = run.load()
    network.experiment = replace(network.experiment, data=replace(network.experiment.data, name="os:getcwd"))
    with pytest.raises(
        crisscross.CrissCrossError, match=r"data\.name=os:getcwd is code of your own: give name='os:getcwd'"
    ):
        crisscross.evaluate(network, run.data, **HERE)
    with pytest.raises(crisscross.CrissCrossError, match=r"no split 'other'; this data set has train, val"):
        crisscross.evaluate(network, crisscross.open_dataset("auto", run.data), "other", **HERE)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"device": "gpu"}, "device"),
        ({"precision": "half"}, "precision must be one of fp32, bf16, fp16, got 'half'"),
        ({"split": "nothing"}, "no split 'nothing'"),
    ],
)
def test_bad_options_are_one_line(run, options, text):
    with pytest.raises(crisscross.CrissCrossError, match=text) as caught:
        crisscross.evaluate(run, run.data, **{**HERE, **options})
    assert "\n" not in str(caught.value)
