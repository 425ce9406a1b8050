"""What a run leaves to read: `log.jsonl` with every logged fact, and `log.csv` with the training curve."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from crisscross.errors import CrissCrossError
from crisscross.files import write_text

CSV_COLUMNS = ("iteration", "loss", "lr", "seconds", "val_miou")


class RunLog:
    """Appends JSON lines; on a resumed run, lines past its start are dropped first.

    Args:
        folder: the run folder.
        start: the iteration that training continues from.
        columns: those of the table.
    """

    def __init__(self, folder: Path, start: int, columns: tuple[str, ...] = CSV_COLUMNS) -> None:
        self.columns = columns
        self.path = folder / "log.jsonl"
        self.csv = folder / "log.csv"
        kept = [entry for entry in read_log(folder) if entry["iteration"] <= start] if start else []
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
            raise CrissCrossError(f"{self.path}: cannot be written: {error.strerror}") from error

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
    """All facts of a run, oldest first; a line cut off by a crash is passed over."""
    path = folder / "log.jsonl"
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict) and "iteration" in entry:
            entries.append(entry)
    return entries
