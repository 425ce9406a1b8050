"""docs/python.md: its program runs as its reader would run it, and its table has every public name."""

import re
import subprocess
import sys

from paths import ROOT
from waiting import HANGS

import crisscross

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_program_runs(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    (tmp_path / "program.py").write_text("\n".join(blocks), encoding="utf-8")
    command = [sys.executable, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    assert re.search(r"best mIoU 0\.\d+ after iteration 4 in runs/first", done.stdout)
    assert "class " in done.stdout and "mIoU 0." in done.stdout and "counts (8, 8)" in done.stdout
    assert done.stdout.splitlines()[-1] == "nowhere: no such folder; give the data set's folder"
    assert sorted(path.name for path in (tmp_path / "predictions").iterdir()) == [
        "classes.json",
        "color",
        "labels",
        "overlay",
    ]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["a", "b", "c", "first"]


def test_the_table_has_every_public_name():
    rows = [line.split("|")[1] for line in PAGE.split("## Names")[1].splitlines() if line.startswith("|")]
    named = {word for row in rows for word in re.findall(r"`(\w+)", row)}
    assert named == set(crisscross.__all__)
