"""The ablations: runs go on where they stopped, finished ones are kept, tables hold what the runs say."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev

import pytest
from published_data import draw_camvid

import crisscross
from benchmarks.ablations import camvid, runs
from crisscross.config import Experiment, apply_overrides
from crisscross.data import open_dataset
from crisscross.engine.train import train
from crisscross.zoo import recipe

pytestmark = pytest.mark.usefixtures("one_thread")

CHANGES = {
    "data.name": "camvid",
    "augment.crop": [16, 16],
    "train.batch": 2,
    "train.iterations": 4,
    "optim.warmup": 0,
}


def small(seed: int) -> Experiment:
    return apply_overrides(recipe("demo"), {**runs.LAST_WEIGHTS, **CHANGES, "train.seed": seed})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return draw_camvid(tmp_path / "camvid")


def facts_of(file: Path) -> list[runs.Facts]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_run_goes_on_from_its_last_weights_and_is_scored_by_them(data: Path, tmp_path: Path):
    dataset, folder = open_dataset("camvid", data), tmp_path / "run"
    started = []

    def start() -> runs.Facts:
        started.append(True)
        return {}

    train(apply_overrides(small(0), {"train.iterations": 2}), dataset, folder)
    network, _, facts = runs.train_and_score(small(0), dataset, folder, start)
    assert not started, "it was resumed"
    assert facts_of(folder / "log.jsonl")[-1]["iteration"] == 4 == facts["iterations"]
    assert facts["cpu_seconds_training"] is None, "only a part of it is known"
    assert facts["test_images"] == 2 and facts["precision"] == "fp32"
    assert facts["torch"] == version("torch") and facts["threads"] == 1 and facts["device"] and facts["cpu"]
    found = crisscross.evaluate(folder, data, split="test", device="cpu", workers=0)
    assert facts["miou"] == pytest.approx(found.miou)
    assert list(facts["iou"].values()) == pytest.approx(list(found.iou.values()), nan_ok=True)
    assert not (folder / "best.safetensors").exists()
    assert network.experiment.train.seed == 0
    new = runs.train_and_score(small(1), dataset, tmp_path / "new", start).facts
    assert started and isinstance(new["cpu_seconds_training"], int) and new["miou"] != facts["miou"]


def test_half_of_the_test_images(data: Path):
    assert len(runs.open_camvid(data).splits["test"]) == 2 and len(runs.open_camvid(data, 2).splits["test"]) == 1


def test_the_grid_goes_on_with_what_is_missing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(camvid.BUDGETS, "cpu", ("demo", CHANGES))
    out = tmp_path / "out"

    def main(*seeds: str) -> dict[str, dict[str, runs.Facts]]:
        monkeypatch.setattr(
            "sys.argv", ["camvid", str(data), "--grid", "recurrence", "--out", str(out), "--seeds", *seeds]
        )
        camvid.main()
        found: dict[str, dict[str, runs.Facts]] = json.loads((out / "cpu/recurrence.json").read_text(encoding="utf-8"))
        return found

    first = main("0")
    assert list(first) == ["R = 0", "R = 1", "R = 2", "R = 3"]
    assert not list(out.rglob("last.safetensors")), "weights and optimizer of finished runs take no space"
    monkeypatch.setattr(runs, "train", lambda *given, **named: pytest.fail("finished runs are kept"))
    assert main("0") == first
    monkeypatch.undo()
    monkeypatch.setitem(camvid.BUDGETS, "cpu", ("demo", CHANGES))
    both = main("1")
    assert all(
        both[row]["0"] == first[row]["0"] and isinstance(both[row]["1"]["cpu_seconds_training"], int) for row in first
    )
    table = [line.split(" | ") for line in (out / "cpu/recurrence.md").read_text(encoding="utf-8").splitlines()]
    assert table[0][1:5] == ["seed 0", "seed 1", "mIoU", "to the first row"]
    zero, two = ([100 * both[row][seed]["miou"] for seed in "01"] for row in ("R = 0", "R = 2"))
    changes = [b - a for a, b in zip(zero, two, strict=True)]
    assert table[4][0] == "| R = 2" and table[4][1:5] == [
        f"{two[0]:.2f}",
        f"{two[1]:.2f}",
        f"{mean(two):.2f} ± {stdev(two):.2f}",
        f"{mean(changes):+.2f} ± {stdev(changes):.2f}",
    ]
    assert table[2][4] == "", "the first row is compared with nothing"
