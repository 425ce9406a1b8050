"""Decoded images kept in memory or on a local disk: for images that are slow to fetch or to decode."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crisscross.data.dataset import DataSet, Pair
from crisscross.data.files.big import free_memory
from crisscross.data.files.reading import open_array, read_header, read_pair
from crisscross.data.files.threads import each
from crisscross.data.labels import label_table
from crisscross.data.samples.loader import Read
from crisscross.errors import CrissCrossError
from crisscross.files import remove_leftovers, user_cache, write_atomically
from crisscross.progress import Progress

# Of image and mask together, per pixel.
BYTES = 4


def check_cache(wanted: str) -> None:
    """Refuse a word that names no cache.

    Raises:
        CrissCrossError: it is neither empty nor `ram`, `disk` or `disk:FOLDER`.
    """
    if wanted not in ("", "ram", "disk") and not (wanted.startswith("disk:") and wanted != "disk:"):
        raise CrissCrossError(f"--cache must be ram, disk or disk:DIR, got {wanted!r}")


def open_cache(wanted: str, dataset: DataSet, pairs: Sequence[Pair], show: bool = True) -> Read:
    """A function that reads pairs as `read_pair` does, from a cache if one is wanted.

    Args:
        wanted: "" (no cache), `ram`, `disk` (in the user's cache folder) or `disk:FOLDER`.
        dataset: the data set of the pairs.
        pairs: all that will be read. For `ram` they are read now.
        show: whether to show the progress of that.

    Raises:
        CrissCrossError: no such cache, a pair cannot be read, or the memory is too small.
    """
    check_cache(wanted)
    if wanted == "ram":
        return RamCache(dataset, pairs, show)
    folder = wanted.partition(":")[2]
    return DiskCache(Path(folder) if folder else user_cache("images")) if wanted else read_pair


class RamCache:
    """All pairs in the memory of this process. Workers forked afterwards share it; started afresh, each has a copy.

    Raises:
        CrissCrossError: a pair cannot be read, or the free memory is too small.
    """

    def __init__(self, dataset: DataSet, pairs: Sequence[Pair], show: bool = True) -> None:
        sizes = [read_header(pair.image) for pair in pairs]
        needed, free = sum(width * height for width, height in sizes) * BYTES, free_memory()
        if free is not None and needed > free:
            raise CrissCrossError(
                f"--cache ram: {len(pairs)} images take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
                "use --cache disk"
            )
        with Progress("cache", len(pairs), show=show) as progress:
            read = each(lambda pair: read_pair(pair, dataset), pairs, lambda done, total: progress.update(done))
            self.kept = dict(zip(pairs, read, strict=True))

    def __call__(self, pair: Pair, dataset: DataSet) -> tuple[np.ndarray, np.ndarray]:
        """Copies: what follows may write into them."""
        image, mask = self.kept[pair]
        return image.copy(), mask.copy()


class DiskCache:
    """One file for each pair, written when it is first read. A changed image, mask or meaning of labels is read anew.

    Several trainings may share the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        remove_leftovers(folder)

    def __call__(self, pair: Pair, dataset: DataSet) -> tuple[np.ndarray, np.ndarray]:
        """As `read_pair`.

        Raises:
            CrissCrossError: the pair cannot be read, or the file not written.
        """
        path = self.folder / f"{_key(pair, dataset)}.npy"
        with contextlib.suppress(CrissCrossError):
            both = open_array(path)
            if both.ndim == 3 and both.shape[2] == BYTES and both.dtype == np.uint8:
                # Copies: a mapped file keeps one more file open.
                return np.array(both[..., :3]), np.array(both[..., 3])
        image, mask = read_pair(pair, dataset)
        write_atomically(path, lambda temporary: _write(temporary, np.dstack([image, mask])))
        return image, mask


def _write(path: Path, array: np.ndarray) -> None:
    # Given a name, NumPy would add a suffix of its own.
    with path.open("wb") as file:
        np.save(file, array)


def _key(pair: Pair, dataset: DataSet) -> str:
    """A name for what `read_pair` returns for these files as they are now."""
    states = [(file, file.stat()) for file in (pair.image, pair.mask)]
    files = [(str(file.absolute()), state.st_size, state.st_mtime_ns) for file, state in states]
    meaning = [label_table(dataset).tolist(), dataset.ignore, len(dataset.classes), sorted(dataset.labels or ())]
    return hashlib.blake2b(json.dumps([files, meaning]).encode(), digest_size=16).hexdigest()
