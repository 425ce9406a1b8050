"""Damaged exports of labeling tools: whatever their files hold, a folder is read or refused in one line."""

import json
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folder_layouts import READ, write
from odd_layouts import READ as ODD_READ

from crisscross.data import open_dataset
from crisscross.data.files.reading import read_pair
from crisscross.errors import CrissCrossError

ODD = [None, True, -1, 3.5, 1e308, "", "x", [], {}, [[]], [1, 2], {"a": 1}, "../../x", 2**70, "9" * 30]
ROWS = READ | ODD_READ
WITH_TEXT = sorted(name for name, row in ROWS.items() if any(isinstance(v, (str, list, dict)) for v in row[0].values()))


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every value inside lists and mappings."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, entry in inner for found in places(entry, (*place, key)))]


def damaged(content: Any, draws: random.Random) -> str:
    """A text with one character changed, or JSON with one value removed or replaced."""
    if isinstance(content, str):
        place = draws.randrange(len(content) + 1)
        return content[:place] + draws.choice(["", "0", "x", ":", "\n", "1e999", "[", "{", "-5"]) + content[place + 1 :]
    tree = json.loads(json.dumps(content))
    place = draws.choice(places(tree))
    if not place:
        return json.dumps(draws.choice(ODD))
    inner = tree
    for key in place[:-1]:
        inner = inner[key]
    if draws.random() < 0.3:
        del inner[place[-1]]
    else:
        inner[place[-1]] = draws.choice(ODD)
    return json.dumps(tree)


@pytest.mark.parametrize("name", WITH_TEXT)
def test_a_damaged_file_is_read_or_refused_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = ROWS[name][0]
    draws, refusals = random.Random(name), []
    for turn in range(6):
        texts = [key for key, content in files.items() if not isinstance(content, (np.ndarray, bytes))]
        key = draws.choice(texts)
        root = write(tmp_path / str(turn), files | {key: damaged(files[key], draws)})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = open_dataset("auto", root)
                for pair in (pair for pairs in dataset.splits.values() for pair in pairs):
                    read_pair(pair, dataset)
        except CrissCrossError as error:
            refusals.append(str(error))
    assert [text for text in refusals if "\n" in text] == []
