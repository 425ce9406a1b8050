"""Run folders with other values or damaged bytes: they give a report, or are refused in one line."""

import json
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from fuzzing import edited, edits, read_or_refused, tries
from hypothesis import given
from hypothesis import strategies as st
from shapes_data import experiment

from crisscross.cli.report import read_run
from crisscross.config import to_yaml
from crisscross.config.documents import parse_yaml
from crisscross.engine.run.log import RunLog, read_log
from crisscross.files import write_text
from crisscross.report.comparison import by_class, differing, overview, render_comparison

pytestmark = pytest.mark.slow

ODD = [
    None,
    True,
    0,
    -1,
    7,
    0.5,
    1e99,
    1e300,
    10**19,
    float("nan"),
    float("inf"),
    "",
    "x" * 300,
    "a\nb",
    "\x1b[2J",
    [],
    {},
]
VALUES = st.recursive(
    st.sampled_from(ODD) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
EXPERIMENT = parse_yaml(to_yaml(experiment("data.classes=[ground, disc, square]")), "x")
LOG = [
    {"iteration": 1, "loss": 1.5, "loss_aux": 0.4, "lr": 0.05, "seconds": 1.0},
    {"iteration": 2, "loss": None, "lr": 0.04, "seconds": 2.0, "skipped": True, "grad_norm": 7.5},
    {"iteration": 2, "val_miou": 0.25, "val_iou": [0.5, 0.25, None]},
    {"iteration": 3, "loss": 1.25, "lr": 0.03, "seconds": 3.0},
]
START = {
    "iteration": 0,
    "versions": {"torch": "2.11.0", "python": "3.11.7"},
    "hardware": {"device": "cpu", "processes": 1},
    "machine": {"workers": 2},
    "git": {"commit": "0123456789abcdef", "changed": False},
}
RECORD = {"experiment": EXPERIMENT, "data": {"name": "folder", "images": {"train": 3}}, "starts": [START, START]}


@st.composite
def replaced(draw: st.DrawFn, tree: Any) -> Any:
    """The tree with up to two of its values replaced."""
    tree = deepcopy(tree)
    for _ in range(draw(st.integers(0, 2))):
        above, key, inner = None, None, tree
        while isinstance(inner, (dict, list)) and inner and (above is None or draw(st.integers(0, 3))):
            key = draw(st.sampled_from(list(inner) if isinstance(inner, dict) else range(len(inner))))
            above, inner = inner, inner[key]
        above[key] = draw(VALUES)
    return tree


def report(run: Path, page: Path) -> None:
    """What `crisscross report` does with a run."""
    rows = [read_run(run, "run")] * 2
    for table in (overview(rows), by_class(rows), differing(rows)):
        assert all(isinstance(cell, str) for row in table for cell in row)
    write_text(page, render_comparison(rows))


@tries(1500)
@given(
    replaced(EXPERIMENT),
    replaced(LOG),
    replaced(RECORD),
    st.sampled_from(["", "experiment.yaml", "log.jsonl", "run.json"]),
    edits,
)
def test_runs(tmp_path: Path, config: Any, log: Any, record: Any, damaged: str, changes: Any) -> None:
    lines = log if isinstance(log, list) else [log]
    texts = {
        "experiment.yaml": json.dumps(config),
        "log.jsonl": "".join(json.dumps(line) + "\n" for line in lines),
        "run.json": json.dumps(record),
    }
    for name, text in texts.items():
        content = text.encode()
        (tmp_path / name).write_bytes(edited(content, changes) if name == damaged else content)
    page = tmp_path / "page.html"
    page.unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read_or_refused(report, tmp_path, page)
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        assert not any(ord(character) < 32 and character not in "\n\t" for character in text)
        entries = read_or_refused(read_log, tmp_path, where=tmp_path)
        # What a resumed run goes on from: entries that were good stay as they are.
        if entries is not None and read_or_refused(RunLog, tmp_path, 2, 2) is not None:
            assert read_log(tmp_path) == [entry for entry in entries if entry["iteration"] <= 2]
