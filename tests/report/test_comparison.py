"""`crisscross report`: tables and page of several run folders."""

import json
from html.parser import HTMLParser

import pytest
from shapes_data import experiment

from crisscross.cli import main
from crisscross.cli.report import read_run, short_names
from crisscross.config import override, to_yaml
from crisscross.report import Curves, render_comparison
from crisscross.report.comparison import RunRow, by_class, differing, overview


@pytest.fixture
def runs(tmp_path):
    """Two runs: one with two validations, and one without validations that skipped a step."""
    folders = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    logs = (
        [
            {"iteration": 1, "loss": 2.0, "lr": 0.1, "seconds": 10},
            {"iteration": 1, "val_miou": 0.6, "val_iou": [0.9, None, 0.3]},
            {"iteration": 2, "loss": 1.0, "lr": 0.1, "seconds": 3725.4},
            {"iteration": 2, "val_miou": 0.5, "val_iou": [0.8, None, 0.2]},
        ],
        [
            {"iteration": 1, "loss": 3.0, "lr": 0.1, "seconds": 1},
            {"iteration": 2, "loss": None, "lr": 0.1, "seconds": 2, "skipped": True},
        ],
    )
    for folder, log, seed in zip(folders, logs, (1, 2), strict=True):
        folder.mkdir(parents=True)
        tree = override(experiment(), [f"train.seed={seed}", "data.classes=[sky, <b>, road]"])
        (folder / "experiment.yaml").write_text(to_yaml(tree))
        (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    start = {"versions": {"torch": "9.9"}, "hardware": {"device": "cpu", "processes": 2}, "git": None}
    (folders[0] / "run.json").write_text(json.dumps({"starts": [start]}))
    return folders


def test_the_tables_follow_from_the_folders(runs):
    rows = [read_run(folder, name) for folder, name in zip(runs, short_names(runs), strict=True)]
    assert overview(rows)[1:] == [
        ["a/run", "0.6000", "1", "0.5000", "1.0000", "2", "1:02:05", "0"],
        ["b/run", "-", "-", "-", "3.0000", "2", "0:02", "1"],
    ]
    assert by_class(rows)[1:] == [["sky", "0.9000", "-"], ["<b>", "-", "-"], ["road", "0.3000", "-"]]
    found = {row[0]: row[1:] for row in differing(rows)[1:]}
    assert found.pop("train.seed") == ["1", "2"] and found["(torch)"] == ["9.9", "-"]
    assert all(key.startswith("(") for key in found)


def test_values_are_shown_as_the_command_line_takes_them():
    rows = [
        RunRow(name, Curves([], []), values={"a": value})
        for name, value in (("x", True), ("y", [{"name": "dice", "weight": 0.5}]), ("z", None), ("w", "9.9"))
    ]
    assert differing(rows)[1] == ["a", "true", "[{name: dice, weight: 0.5}]", "null", "9.9"]


def test_the_page_is_self_contained(runs):
    page = render_comparison([read_run(folder, name) for folder, name in zip(runs, "xy", strict=True)])
    opened = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            opened.append(tag)
            assert not {"src", "href"} & {name for name, _ in attributes}

    Reader().feed(page)
    assert opened.count("svg") == 2 and opened.count("path") == 3 and opened.count("circle") == 2
    assert "script" not in opened and "&lt;b&gt;" in page and "<b>" not in page


def test_the_command_prints_and_writes(runs, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", *map(str, runs), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "0.6000" in printed and "train.seed" in printed and str(out) in printed
    assert out.read_text().startswith("<!doctype html>")
    assert main(["report", str(tmp_path)]) == 2
    assert "no run folder: experiment.yaml is not there" in capsys.readouterr().err


def test_runs_of_several_tasks_share_a_page():
    uri = "data:image/png;base64,AAAA"
    semantic = RunRow(
        "a", Curves([1], [2.0], [0.1], [1], [0.5]), ("road",), [0.5], 0.5, 1, 0.5, values={"optim.lr": 0.1, "loss.x": 1}
    )
    instances = RunRow(
        "b",
        Curves([1], [3.0], [0.1], [1], [0.25], more_scores={"box AP": [0.75]}, parts={"mask": [1.0], "box": [2.0]}),
        ("car",),
        best=0.25,
        best_iteration=1,
        last=0.25,
        values={"optim.lr": 0.2, "proposals.y": 2},
        title="mask AP",
        more={"box AP": 0.75},
        examples=[(f"image {n}", [("truth", uri)]) for n in range(4)],
    )
    rows = overview([semantic, instances])
    assert rows[0][:5] == ["run", "scored by", "best val score", "box AP", "at"]
    assert [row[:4] for row in rows[1:]] == [["a", "mIoU", "0.5000", "-"], ["b", "mask AP", "0.2500", "0.7500"]]
    # Classes of runs without an IoU and keys of one task alone are no differences.
    assert by_class([semantic, instances]) == [["class", "a"], ["road", "0.5000"]]
    assert differing([semantic, instances])[1:] == [["optim.lr", "0.1", "0.2"]]
    page = render_comparison([semantic, instances])
    for heading in ("Validation mIoU", "Validation mask AP", "Validation box AP", "Loss", "mask", "box"):
        assert f"<h3>{heading}</h3>" in page
    assert page.count(uri) == 2 and "b: image 0" in page and "b: image 2" in page
    # The second run keeps its color where the first has no curve.
    box = page[page.index("Validation box AP") :]
    assert "hsl(352 65% 50%)" in box[: box.index("</svg>")]


def test_images_come_from_the_page_of_the_run(runs):
    assert read_run(runs[0], "a").examples == []
    uri = "data:image/png;base64,AAAA"
    figure = f'<figure><img src="{uri}"><figcaption>truth</figcaption></figure>'
    (runs[0] / "report.html").write_text(f'<section class="row"><h3>first</h3><div>{figure}</div></section>')
    row = read_run(runs[0], "a")
    assert row.examples == [("first", [("truth", uri)])] and "a: first" in render_comparison([row])
    (runs[0] / "report.html").write_bytes(b"\xff\xfe")
    assert read_run(runs[0], "a").examples == []
