"""A data set in a few tar files: one read for each picture in the place of two searches in far storage.

The tar files are plain and in the manner of WebDataset: `00000012.jpg`, `00000012.mask.png` and `00000012.json` (its
name) belong together. `shards.json` holds the meaning of the labels and the splits.
"""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from crisscross.data.dataset import DataSet, Pair, existing_folder
from crisscross.data.members import INDEX, open_member, scan, size_of
from crisscross.errors import CrissCrossError
from crisscross.files import write_atomically, write_text
from crisscross.progress import Progress

SHARDS, FORMAT = "shards.json", 1


def write_shards(dataset: DataSet, out: Path, size: int = 256_000_000) -> int:
    """Pack all splits into tar files of about `size` bytes; returns how many. Pictures in two splits are packed once.

    `shards.json` comes last: a folder without it is unfinished, and the same call starts anew.

    Raises:
        CrissCrossError: `out` holds shards already, a file cannot be read, or one cannot be written.
    """
    if (out / SHARDS).exists():
        raise CrissCrossError(f"{out}: holds shards already; choose another folder")
    pairs = list(dict.fromkeys(pair for split in dataset.splits.values() for pair in split))
    places: dict[Pair, tuple[str, str, str]] = {}
    shards = list(_shares(pairs, size))
    with Progress("packing", len(pairs)) as progress:
        for number, share in enumerate(shards):
            shard = out / f"{number:05}.tar"
            write_atomically(shard, partial(_fill, shard=shard, share=share, places=places, progress=progress))
            index = {"bytes": shard.stat().st_size, "members": scan(shard)}
            write_text(f"{shard}{INDEX}", json.dumps(index) + "\n")
    write_text(out / SHARDS, json.dumps(_described(dataset, places), indent=1) + "\n")
    return len(shards)


def open_shards(root: str | os.PathLike[str]) -> DataSet:
    """Open what `write_shards` wrote: the same classes, splits and order of pairs as the data set that it was made of.

    Raises:
        CrissCrossError: a missing folder or file, or a `shards.json` that is not ours.
    """
    root = existing_folder(root)
    path = root / SHARDS
    if not path.is_file():
        raise CrissCrossError(f"{path}: no such file; `crisscross data shard DIR {root}` writes it last")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            raise CrissCrossError(f"{path}: format {facts['format']}, this version reads {FORMAT}")
        return _opened(root, facts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CrissCrossError(f"{path}: not what `crisscross data shard` writes: {error}") from error


def _shares(pairs: list[Pair], size: int) -> Iterator[list[tuple[int, Pair]]]:
    """Numbered pairs for one tar file after the other."""
    share: list[tuple[int, Pair]] = []
    filled = 0
    for number, pair in enumerate(pairs):
        try:
            length = size_of(pair.picture) + size_of(pair.mask)
        except OSError as error:
            raise CrissCrossError(f"{error.filename}: {error.strerror}") from error
        if share and filled + length > size:
            yield share
            share, filled = [], 0
        share.append((number, pair))
        filled += length
    if share:
        yield share


def _fill(
    path: Path,
    shard: Path,
    share: list[tuple[int, Pair]],
    places: dict[Pair, tuple[str, str, str]],
    progress: Progress,
) -> None:
    with tarfile.open(path, "w") as file:
        for number, pair in share:
            key = f"{number:08}"
            picture, mask = f"{key}{pair.picture.suffix.lower()}", f"{key}.mask{pair.mask.suffix.lower()}"
            for name, content in (
                (picture, _bytes(pair.picture)),
                (mask, _bytes(pair.mask)),
                (f"{key}.json", json.dumps({"name": pair.name}).encode()),
            ):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o644
                file.addfile(entry, io.BytesIO(content))
            places[pair] = shard.name, picture, mask
            progress.update(number + 1)


def _bytes(path: Path) -> bytes:
    with open_member(path) as file:
        return file.read()


def _described(dataset: DataSet, places: dict[Pair, tuple[str, str, str]]) -> dict[str, Any]:
    splits = {name: [[pair.name, *places[pair]] for pair in pairs] for name, pairs in dataset.splits.items()}
    return {
        "format": FORMAT,
        "name": dataset.name,
        "classes": dataset.classes,
        "palette": dataset.palette,
        "ignore": dataset.ignore,
        "void": dataset.void,
        "labels": None if dataset.labels is None else sorted(dataset.labels.items()),
        "flip_pairs": dataset.flip_pairs,
        "video": dataset.video,
        "note": dataset.note,
        "splits": splits,
    }


def _opened(root: Path, facts: dict[str, Any]) -> DataSet:
    splits = {
        split: tuple(Pair(name, root / shard / picture, root / shard / mask) for name, shard, picture, mask in pairs)
        for split, pairs in facts["splits"].items()
    }
    return DataSet(
        name=facts["name"],
        root=root,
        classes=tuple(facts["classes"]),
        palette=tuple((red, green, blue) for red, green, blue in facts["palette"]),
        splits=splits,
        ignore=facts["ignore"],
        void=tuple(facts["void"]),
        note=facts["note"],
        labels=None if facts["labels"] is None else dict(facts["labels"]),
        flip_pairs=tuple((first, second) for first, second in facts["flip_pairs"]),
        # Shards of earlier versions do not say.
        video=bool(facts.get("video", False)),
    )
