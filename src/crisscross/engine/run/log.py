"""The logs of a run: `log.jsonl` with every logged fact, and `log.csv` with the training curve."""

import csv
import io
import json
import math
import warnings
from pathlib import Path
from typing import Any

from crisscross.config.documents import ANNOTATION_BYTES, parse_json, read_text
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.files import write_text

# Columns of every task; those of its scores follow.
CSV_COLUMNS = ("iteration", "loss", "lr", "seconds")


class RunLog:
    """Appends JSON lines; on a resumed run, lines of iterations that will be repeated are dropped first.

    Args:
        folder: the run folder.
        start: the iteration that training continues from.
        validated: the last iteration whose validation counts; a later one was logged by a process that died before it
            saved the run, and is made again.
        columns: of the scores in the table.
    """

    def __init__(self, folder: Path, start: int, validated: int, columns: tuple[str, ...] = ("val_miou",)) -> None:
        self.columns = (*CSV_COLUMNS, *columns)
        self.path = folder / "log.jsonl"
        self.csv = folder / "log.csv"
        entries = read_log(folder) if start else []
        kept = [entry for entry in entries if entry["iteration"] <= (start if "lr" in entry else validated)]
        write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in kept))

    def add(self, iteration: int, **facts: Any) -> None:
        """Append one line of facts.

        Raises:
            CrissCrossError: the file cannot be written, e.g. because the disk is full.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"iteration": iteration, **facts}) + "\n")
        except OSError as error:
            raise CrissCrossError(f"{self.path}: cannot be written: {error.strerror}") from None

    def write_csv(self) -> None:
        """Write the curve of everything logged so far."""
        rows: dict[int, dict[str, Any]] = {}
        for entry in read_log(self.path.parent):
            rows.setdefault(entry["iteration"], {}).update(entry)
        text = io.StringIO()
        table = csv.DictWriter(text, self.columns, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(rows.values())
        write_text(self.csv, text.getvalue())


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All facts of a run, oldest first.

    Every entry has an `iteration`, a whole number from 0; `val_iou` is a list of fractions or None, every other value a
    number below 1e100, true, false or None. A last line cut off by a crash is ignored, and damaged lines before it are
    with a warning.

    Raises:
        CrissCrossError: the file cannot be read.
    """
    path = folder / "log.jsonl"
    if not path.exists():
        return []
    lines = read_text(path, ANNOTATION_BYTES).split("\n")
    entries = [_entry(line) for line in lines if line.strip()]
    if damaged := sum(entry is None for entry in entries[:-1]):
        warnings.warn(f"{path}: {damaged} damaged lines are left out", CrissCrossWarning, 2)
    return [entry for entry in entries if entry is not None]


def _entry(line: str) -> dict[str, Any] | None:
    """The facts of a line; None where it holds something else."""
    try:
        facts = parse_json(line, "log")
    except CrissCrossError:
        return None
    if not isinstance(facts, dict) or type(facts.get("iteration")) is not int or facts["iteration"] < 0:
        return None
    scores = [] if facts.get("val_iou") is None else facts["val_iou"]
    fractions = [*scores, facts.get("val_miou")] if isinstance(scores, list) else [scores]
    others = [value for name, value in facts.items() if name != "val_iou"]
    good = all(_is_number(value, 1.0) for value in fractions) and all(_is_number(value, 1e100) for value in others)
    return facts if good else None


def _is_number(value: Any, most: float) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value) and abs(value) <= most)
