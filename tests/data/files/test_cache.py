"""Where images come from must not matter: files, a cache in memory or on disk."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shapes_data import experiment, write_shapes

from crisscross.checkpoints import native
from crisscross.data import DataSet, open_folder
from crisscross.data.files import cache as caches
from crisscross.data.files.cache import DiskCache, open_cache
from crisscross.data.files.reading import read_pair
from crisscross.data.samples.loader import TrainingSamples
from crisscross.engine.setup import Machine
from crisscross.engine.train import train
from crisscross.errors import CrissCrossError
from crisscross.files import temporary_path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", train=5, val=2)


@pytest.fixture(scope="module")
def dataset(folder: Path) -> DataSet:
    return open_folder(folder)


def stream(dataset: DataSet, wanted: str = "", count: int = 12) -> list:
    pairs = dataset.split("train")
    samples = TrainingSamples(dataset, pairs, experiment(), open_cache(wanted, dataset, pairs, show=False))
    return [samples[n] for n in range(count)]


def same(ours: list, theirs: list) -> bool:
    return all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and a[2] == b[2] for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_cache_gives_the_same_samples_and_reads_each_file_once(dataset, tmp_path, monkeypatch, kind):
    plain, reads = stream(dataset), []
    monkeypatch.setattr(caches, "read_pair", lambda *given: (reads.append(given[0].name), read_pair(*given))[1])
    assert same(plain, stream(dataset, "ram" if kind == "ram" else f"disk:{tmp_path / 'kept'}"))
    assert sorted(reads) == sorted(pair.name for pair in dataset.split("train"))


def test_a_disk_cache_notices_change_and_damage(folder, tmp_path):
    root = write_shapes(tmp_path / "own", train=2, val=1)
    dataset, wanted = open_folder(root), f"disk:{tmp_path / 'kept'}"
    (pair, other), read = dataset.split("train"), open_cache(f"disk:{tmp_path / 'kept'}", dataset, ())
    read(pair, dataset), read(other, dataset)
    mask = np.full((64, 80), 2, np.uint8)
    Image.fromarray(mask).save(pair.mask)
    os.utime(pair.mask, ns=(1, 1))
    assert (read(pair, dataset)[1] == 2).all()
    for file in (tmp_path / "kept").iterdir():
        file.write_bytes(file.read_bytes()[:50])
    again = open_cache(wanted, dataset, ())
    assert np.array_equal(again(other, dataset)[0], read_pair(other, dataset)[0])
    assert not list((tmp_path / "kept").glob(".*"))


def test_caches_that_cannot_be_had_say_so(dataset, tmp_path, monkeypatch):
    with pytest.raises(CrissCrossError, match="--cache must be ram, disk or disk:DIR, got 'rom'"):
        train(experiment(), dataset, tmp_path / "run", Machine(cache="rom"))
    monkeypatch.setattr(caches, "free_memory", lambda: 5 * 64 * 80 * 4 - 1)
    with pytest.raises(CrissCrossError, match=r"5 images take .* GB are free; use --cache disk"):
        open_cache("ram", dataset, dataset.split("train"))
    monkeypatch.setattr(caches, "free_memory", lambda: 5 * 64 * 80 * 4)
    assert open_cache("ram", dataset, dataset.split("train"))
    (tmp_path / "file").write_text("")
    with pytest.raises(CrissCrossError, match=r"file.*cannot be written"):
        open_cache(f"disk:{tmp_path / 'file'}", dataset, ())(dataset.split("train")[0], dataset)


# --- processes that read ---


def children_of_this_process() -> set[int]:
    return {*map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())}


def kill_a_worker(stop: threading.Event, others: set[int]) -> None:
    """SIGKILL the children of this process but for `others`, until told to stop."""
    while not stop.is_set():
        for child in children_of_this_process() - others:
            # One may have ended meanwhile.
            with suppress(OSError):
                if "resource_tracker" not in Path(f"/proc/{child}/cmdline").read_text():
                    os.kill(child, signal.SIGKILL)
        time.sleep(0.01)


@pytest.mark.skipif(not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="needs /proc of Linux")
def test_a_killed_worker_is_one_line_and_the_run_is_saved(dataset, tmp_path):
    out, stop, others = tmp_path / "run", threading.Event(), children_of_this_process()

    def listener(step):
        if step.iteration == 2:
            threading.Thread(target=kill_a_worker, args=(stop, others)).start()

    # So many that the worker is killed before the end.
    words = ("train.iterations=100000",)
    try:
        with pytest.raises(CrissCrossError, match=r"a process that reads images was killed by SIGKILL") as caught:
            train(experiment(*words), dataset, out, Machine(workers=1), listener=listener)
    finally:
        stop.set()
    assert "\n" not in str(caught.value)
    saved = native.read(out / "last.safetensors")[2]["position"]["iteration"]
    assert 2 <= saved < 100000 and f"is saved at iteration {saved}, continue with `crisscross train --resume " in str(
        caught.value
    )
    from crisscross.engine.run.log import read_log

    assert [entry["iteration"] for entry in read_log(out)][-1] == saved


def test_a_image_that_breaks_during_training_saves_the_run_exactly(dataset, tmp_path, monkeypatch):
    original = TrainingSamples.__getitem__
    whole = tmp_path / "whole"
    train(experiment("train.accumulate=2"), dataset, whole)

    def broken(self, n):
        # The second half of the fourth batch.
        if n == 3 * 4 + 3:
            raise CrissCrossError("p.png: cannot be read")
        return original(self, n)

    monkeypatch.setattr(TrainingSamples, "__getitem__", broken)
    with pytest.raises(CrissCrossError, match=r"p\.png: cannot be read; .*saved at iteration 3"):
        train(experiment("train.accumulate=2"), dataset, tmp_path / "cut")
    monkeypatch.setattr(TrainingSamples, "__getitem__", original)
    train(experiment("train.accumulate=2"), dataset, tmp_path / "cut", resume=True)
    ours, theirs = (native.read(run / "last.safetensors")[0] for run in (whole, tmp_path / "cut"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_what_a_killed_training_left_in_the_cache_is_removed(tmp_path):
    half, own = temporary_path(tmp_path / "x.npy", 2**22 + 1), temporary_path(tmp_path / "y.npy", os.getppid())
    for path in (half, own):
        path.write_bytes(b"half")
    DiskCache(tmp_path)
    assert list(tmp_path.iterdir()) == [own]
