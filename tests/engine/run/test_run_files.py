"""What a run leaves, damaged: log, record and training state are checked before they are used."""

import json
import warnings
from pathlib import Path

import pytest

from crisscross.cli import main
from crisscross.config import Experiment, apply_overrides, to_yaml
from crisscross.engine.run.log import RunLog, read_log
from crisscross.engine.run.record import read_record
from crisscross.engine.run.state import Position, take_position
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.report.charts import curve_chart, ticks

EXPERIMENT = apply_overrides(Experiment(), {"data.classes": ["a", "b"]})
GOOD = {"iteration": 1, "loss": 2.0, "lr": 0.1, "seconds": 1.0}


@pytest.mark.parametrize(
    "line",
    [
        "7",
        "[]",
        "not JSON",
        '{"loss": 1}',
        '{"iteration": "1"}',
        '{"iteration": 1.5}',
        '{"iteration": true}',
        '{"iteration": -1}',
        '{"iteration": ' + "9" * 5000 + "}",
        '{"iteration": 1, "loss": "x"}',
        '{"iteration": 1, "loss": [1]}',
        '{"iteration": 1, "loss": 1e999, "lr": 1, "seconds": 1}',
        '{"iteration": 1, "loss": NaN, "lr": 1, "seconds": 1}',
        '{"iteration": 1, "val_miou": 7}',
        '{"iteration": 1, "val_miou": 0.5, "val_iou": {}}',
        '{"iteration": 1, "val_miou": 0.5, "val_iou": "ab"}',
        '{"iteration": 1, "val_miou": 0.5, "val_iou": [[1]]}',
        "[" * 500 + "]" * 500,
    ],
)
def test_damaged_lines_of_a_log_are_left_out_and_said(tmp_path, line):
    (tmp_path / "log.jsonl").write_text(f"{line}\n{json.dumps(GOOD)}\n{line}")
    with pytest.warns(CrissCrossWarning, match=r"log\.jsonl: 1 damaged lines are left out$"):
        assert read_log(tmp_path) == [GOOD]
    # The last line alone may be cut off: nothing is said.
    (tmp_path / "log.jsonl").write_text(f"{json.dumps(GOOD)}\n{line}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_log(tmp_path) == [GOOD]


def test_all_that_a_run_logs_is_read_back(tmp_path):
    log = RunLog(tmp_path, 0, 0)
    log.add(1, loss=None, loss_main=1.5, grad_norm=1e9, skipped=True, lr=0.0, seconds=0.5)
    log.add(1, val_miou=None, val_iou=[None, 0.0, 1.0])
    log.add(2, val_mask_ap=0.5, val_box_ap=None)
    assert [set(entry) - {"iteration"} for entry in read_log(tmp_path)] == [
        {"loss", "loss_main", "grad_norm", "skipped", "lr", "seconds"},
        {"val_miou", "val_iou"},
        {"val_mask_ap", "val_box_ap"},
    ]


@pytest.mark.parametrize(
    "text",
    [
        "7", "[]", "{", "not JSON", '{"starts": 7}', '{"starts": [7]}', '{"starts": [{}]}', "[" * 500,
        '{"starts": [{"versions": [], "hardware": {}, "git": null}]}',
        '{"starts": [{"versions": {}, "hardware": {}, "git": {"commit": 7, "changed": false}}]}',
        '{"starts": [{"versions": {}, "hardware": {}, "git": "x"}]}',
    ],
)  # fmt: skip
def test_a_record_of_rubbish_is_left_out_and_said(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.warns(CrissCrossWarning, match=r"run\.json: .*; it is left out$"):
        assert read_record(tmp_path) == {}


def test_a_report_of_damaged_runs_is_made_or_refused_in_one_line(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "experiment.yaml").write_text(to_yaml(EXPERIMENT))
    scored = {"iteration": 2, "val_miou": 0.5, "val_iou": [0.5, 0.5]}
    lines = [json.dumps(GOOD), "rubbish", '{"iteration": 2, "loss": 1e99}', json.dumps(scored)]
    (run / "log.jsonl").write_text("\n".join(lines))
    (run / "run.json").write_text("[]")
    words = ["report", str(run), "--out", str(tmp_path / "r.html")]
    assert main(words) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(line.startswith("crisscross: warning: ") for line in said)
    (run / "log.jsonl").write_text(json.dumps(scored | {"val_iou": [0.5]}))
    assert main(words) == 2
    assert "log.jsonl scores 1 classes, experiment.yaml names 2" in capsys.readouterr().err
    (run / "experiment.yaml").write_text("[" * 500)
    assert main(words) == 2 and "not valid YAML" in capsys.readouterr().err


@pytest.mark.parametrize("values", [[1e-14] * 3, [0.0, 5e-324], [1e99, -1e99], [1e6, 1e6 + 1e-9], [1e-300, 2e-300]])
def test_curves_of_tiny_and_huge_values_are_drawn(values):
    scale = ticks(min(values), max(values))
    assert (
        scale[0] <= min(values) and max(values) <= scale[-1] and scale[0] < scale[-1] and len(set(scale)) == len(scale)
    )
    assert "<svg" in curve_chart([("loss", range(len(values)), values)], "loss")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({}, "holds weights but no training state"),
        ({"position": {}, "seconds": "x"}, "seconds must be a number from 0, got 'x'"),
        ({"position": {}, "seconds": float("nan")}, "seconds must be a number from 0, got nan"),
        ({"position": {}}, "seconds must be a number from 0, got None"),
        ({"position": [1], "seconds": 1}, "position must be a mapping"),
        ({"position": {"iteration": "x"}, "seconds": 1}, "position.iteration must be a whole number, got 'x'"),
        ({"position": {"iterations": 1}, "seconds": 1}, "unknown key position.iterations"),
        ({"position": {"best_miou": []}, "seconds": 1}, "position.best_score must be a number"),
    ],
)
def test_a_state_of_rubbish_is_not_resumed_from(facts, reason):
    with pytest.raises(CrissCrossError) as caught:
        take_position(Path("last.safetensors"), facts)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    # Each task once had its own name for the best score.
    for earlier in ({"best_miou": 0.5}, {"best_mask_ap": 0.5, "best_box_ap": 0.6}, {"best_score": 0.5}):
        good = {"position": {"iteration": 3, "best_iteration": None, **earlier}, "seconds": 1}
        assert take_position(Path("x"), good) == Position(iteration=3, best_score=0.5)
