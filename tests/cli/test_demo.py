"""`crisscross demo`: three networks, their report, and what they show."""

import re

import pytest

from crisscross.cli import demo, main
from crisscross.engine.run.log import read_log

SMALL = ["--set", "train.iterations=2", "--set", "train.batch=2", "--set", "augment.crop=[32, 64]"]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(demo, "SCENES", {"train": 16, "test": 2})
    monkeypatch.setattr(demo, "HEIGHT", 32)
    monkeypatch.setattr(demo, "WIDTH", 64)


@pytest.mark.usefixtures("one_thread", "small")
def test_three_networks_that_differ_in_r_alone_are_compared(tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), *SMALL, "--set", "train.seed=5"]) == 0
    recipes = [(out / f"r{number}" / "experiment.yaml").read_text(encoding="utf-8") for number in range(3)]
    for number, text in enumerate(recipes):
        assert f"recurrence: {number}" in text and "seed: 5" in text
        assert text.replace(f"recurrence: {number}", "recurrence: 0") == recipes[0]
        assert ("gate" in read_log(out / f"r{number}")[0]) == (number > 0)
    assert len(list((out / "predictions").iterdir())) >= 2
    page = (out / "report.html").read_text(encoding="utf-8")
    # Two scenes with image, truth and three predictions; image, two passes and both of them.
    assert page.count("<img") == 2 * 5 + 4 and "The scenes are drawn to need context" in page
    said = capsys.readouterr().out
    shown = re.findall(r"^  R = (\d)  (\d\.\d{3})  \w", said, re.MULTILINE)
    assert [number for number, _ in shown] == ["0", "1", "2"]
    assert all(f"<dd>{score}</dd>" in page for _, score in shown)
    # What is said to be next can be typed as it stands.
    (words,) = re.findall(r"^  crisscross (explain .*)$", said, re.MULTILINE)
    assert main(words.split()) == 0
    # A second time it starts over.
    assert main(["demo", "--out", str(out), *SMALL]) == 0


@pytest.mark.usefixtures("one_thread", "small")
def test_an_interrupted_demo_says_so(tmp_path, monkeypatch, capsys):
    from crisscross.engine import train as training

    real = training.train

    def interrupted(*arguments, **options):
        outcome = real(*arguments, **options)
        object.__setattr__(outcome, "finished", False)
        return outcome

    monkeypatch.setattr(training, "train", interrupted)
    assert main(["demo", "--out", str(tmp_path / "demo"), *SMALL]) == 2
    assert "demo stopped at iteration 2; run it again to start over" in capsys.readouterr().err
    assert not (tmp_path / "demo" / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "model.head.recurrence=1"], "the demo trains R = 0, 1 and 2"),
        (["--set", "optim.gate_factr=1"], "unknown key optim.gate_factr"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_drawn(tmp_path, capsys, words, said):
    assert main(["demo", "--out", str(tmp_path / "demo"), *words]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "demo").exists()


@pytest.mark.slow
def test_two_passes_see_what_one_does_not(tmp_path, capsys):
    """The goal of the demo: 30 points of mIoU above no attention, 15 above one pass."""
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    none, one, two = (
        float(score) for score in re.findall(r"^  R = \d  (0\.\d+)", capsys.readouterr().out, re.MULTILINE)
    )
    assert two > none + 0.30 and two > one + 0.15
