"""`crisscross evaluate --report`: the page, what it costs nobody else, and what is in its way."""

import json
import re

import pytest
from small_runs import small_run

import crisscross
from crisscross.cli import main

HERE = {"device": "cpu", "workers": 0, "progress": False}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("small"))


def test_the_command_writes_a_page_and_its_numbers(run, tmp_path, capsys):
    words = [
        "evaluate",
        str(run.folder),
        "--data",
        str(run.data),
        "--split",
        "val",
        "--device",
        "cpu",
        "--workers",
        "0",
    ]
    words += ["--tta", "--report", str(tmp_path / "page"), "--json", str(tmp_path / "scores.json")]
    assert main(words) == 0
    page, facts = (
        (tmp_path / "page" / "evaluation.html").read_text(),
        json.loads((tmp_path / "scores.json").read_text()),
    )
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == f"report: {tmp_path / 'page' / 'evaluation.html'}"
    assert f"calibration error {100 * facts['calibration']['ece']:.2f}" in said
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["evaluation.html"]
    assert f"<h1>run on {run.data.name}</h1>" in page and "multi-scale + flip" in page
    assert f"crisscross evaluate {run.folder} --data {run.data} --split val --tta" in page
    for heading in ("Classes", "Confusion", "Calibration", "Images", "Speed and memory", "To repeat it"):
        assert f"<h2>{heading}</h2>" in page
    for term in ("images a second", "peak memory", "processor", "precision"):
        assert f"<dt>{term}</dt>" in page
    assert f"<dd>{facts['miou']:.3f}</dd>" in page and f"<dd>{facts['boundary_miou']:.3f}</dd>" in page
    assert not re.search(r"https?://|@import|url\(|<script|<link", page)
    # Once more: its own page is replaced.
    assert main(words) == 0


def test_a_file_in_the_way_is_not_replaced(run, tmp_path, capsys):
    (tmp_path / "evaluation.html").write_text("mine")
    words = ["evaluate", str(run.folder), "--data", str(run.data), "--workers", "0", "--report", str(tmp_path)]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "evaluation.html: exists" in line and (tmp_path / "evaluation.html").read_text() == "mine"


def test_scores_are_those_without_a_page(run, tmp_path):
    plain = crisscross.evaluate(run, run.data, **HERE)
    detailed = crisscross.evaluate(run.load(), run.data, report=str(tmp_path), **HERE)
    timed = ("seconds", "fps", "memory_bytes")
    assert {name: detailed.facts[name] for name in plain.facts if name not in timed} == {
        name: value for name, value in plain.facts.items() if name not in timed
    }
    more = {"boundary_ratio", "boundary_miou", "boundary_iou", "calibration", "bootstrap", "intervals"}
    assert detailed.facts.keys() - plain.facts.keys() == more
    # A network in memory has no command that would load it.
    assert "crisscross evaluate" not in (tmp_path / "evaluation.html").read_text()
