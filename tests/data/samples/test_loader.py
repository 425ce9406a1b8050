"""The stream of samples: what sample n is follows from the seed and n, however the work is shared out."""

import errno
import json
import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from shapes_data import EXPERIMENT, write_shapes
from small_data import write_folder
from torch import Tensor
from torch.utils.data import DataLoader
from waiting import HANGS

from crisscross.config import Experiment, apply_overrides
from crisscross.data import DataSet, open_folder
from crisscross.data.samples import workers as open_files
from crisscross.data.samples.loader import (
    Batch,
    EvaluationSamples,
    Samples,
    TrainingSamples,
    seed_for,
    training_batches,
)
from crisscross.errors import CrissCrossError

PAIRS = 7


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return open_folder(write_folder(tmp_path_factory.mktemp("loader") / "set", {"train": PAIRS}))


def experiment(**changes: object) -> Experiment:
    defaults = {"augment.crop": (16, 20), "train.batch": 4, "train.iterations": 5}
    return apply_overrides(Experiment(), defaults | {key.replace("__", "."): value for key, value in changes.items()})


def samples(dataset: DataSet, **changes: object) -> TrainingSamples:
    return TrainingSamples(dataset, dataset.split("train"), experiment(**changes))


def same(one: Batch, other: Batch) -> bool:
    return one.names == other.names and torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


def equal(one: tuple[Tensor, Tensor, str], other: tuple[Tensor, Tensor, str]) -> bool:
    return torch.equal(one[0], other[0]) and torch.equal(one[1], other[1]) and one[2] == other[2]


def test_seeds_follow_from_all_words_and_their_order() -> None:
    words = [(seed, stream, n) for seed in range(4) for stream in (0, 1) for n in range(50)]
    seeds = {seed_for(*word) for word in words}
    assert len(seeds) == len(words)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # The same today as ever: resuming an old run depends on it.
    assert seed_for(0, 1, 2) == 7458517345114353967


def test_a_sample_is_a_function_of_seed_and_place_alone(dataset: DataSet) -> None:
    forwards, backwards = samples(dataset), samples(dataset)
    places = [0, 1, PAIRS, 5 * PAIRS + 3]
    one = {n: forwards[n] for n in places}
    torch.manual_seed(123)
    other = {n: backwards[n] for n in reversed(places)}
    assert all(equal(one[n], other[n]) for n in places)


def test_another_seed_gives_another_order_and_other_chances(dataset: DataSet) -> None:
    orders = [[samples(dataset, train__seed=seed).pair_at(n).name for n in range(PAIRS)] for seed in (0, 1)]
    assert orders[0] != orders[1]
    # With a single pair the order is the same.
    one, other = (TrainingSamples(dataset, dataset.split("train")[:1], experiment(train__seed=seed)) for seed in (0, 1))
    assert not any(equal(one[n], other[n]) for n in range(4))


def test_the_same_image_looks_different_in_another_epoch(dataset: DataSet) -> None:
    stream = samples(dataset)
    first = {stream[n][2]: stream[n] for n in range(PAIRS)}
    second = {stream[n][2]: stream[n] for n in range(PAIRS, 2 * PAIRS)}
    assert not any(equal(first[name], second[name]) for name in first)


def test_every_epoch_visits_every_pair_once_in_its_own_order(dataset: DataSet) -> None:
    stream = samples(dataset)
    epochs = [[stream.pair_at(epoch * PAIRS + place).name for place in range(PAIRS)] for epoch in range(6)]
    assert all(sorted(names) == [f"train_{n}" for n in range(PAIRS)] for names in epochs)
    assert len({tuple(names) for names in epochs}) == 6


def test_shapes_padding_and_normalization(dataset: DataSet) -> None:
    stream = samples(dataset, augment__crop=(64, 80), augment__ratio=(1, 1), augment__distortion=False, augment__flip=0)
    image, labels, name = stream[0]
    assert (image.shape, image.dtype) == ((3, 64, 80), torch.float32)
    assert (labels.shape, labels.dtype) == ((64, 80), torch.uint8)
    assert image[:, 24:].abs().sum() == 0
    assert image[:, :, 32:].abs().sum() == 0
    assert labels[24:].eq(255).all()
    assert labels[:, 32:].eq(255).all()
    place = [pair.name for pair in stream.pairs].index(name)
    stored, mask, _ = EvaluationSamples(dataset, stream.pairs)[place]
    assert (stored.shape, stored.dtype) == ((3, 24, 32), torch.uint8)
    assert torch.equal(labels[:24, :32], mask)
    preprocess = stream.experiment.preprocess
    for channel in range(3):
        expected = (stored[channel].float() - preprocess.mean[channel]) / preprocess.std[channel]
        assert torch.allclose(image[channel, :24, :32], expected, atol=1e-5)


def test_workers_change_nothing(dataset: DataSet) -> None:
    here = list(training_batches(samples(dataset), 0, workers=0))
    there = list(training_batches(samples(dataset), 0, workers=2))
    assert len(here) == len(there) == 5
    assert all(same(one, other) for one, other in zip(here, there, strict=True))


def test_samples_of_any_task_are_stacked() -> None:
    """Depths are floats, of which no classes are counted."""
    depth = [(torch.full((3, 4, 4), float(n)), torch.full((4, 4), n / 8), str(n)) for n in range(2)]
    batch = Samples.collate(depth)
    assert batch.labels.dtype == torch.float32 and batch.labels[1].eq(1 / 8).all()
    assert (batch.images.shape, batch.names, batch.found) == ((2, 3, 4, 4), ["0", "1"], frozenset())


def joined(batches: list[Batch]) -> Batch:
    images, labels = (torch.cat([getattr(batch, part) for batch in batches]) for part in ("images", "labels"))
    found = frozenset().union(*(batch.found for batch in batches))
    return Batch(images, labels, [name for batch in batches for name in batch.names], found)


@pytest.mark.parametrize("processes", [2, 4])
def test_the_shares_of_the_processes_are_the_single_batch(dataset: DataSet, processes: int) -> None:
    single = list(training_batches(samples(dataset), 0))
    shares = [list(training_batches(samples(dataset), 0, process, processes)) for process in range(processes)]
    assert all(len(share) == 5 for share in shares)
    for iteration, batch in enumerate(single):
        assert same(joined([share[iteration] for share in shares]), batch)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_cuts_the_same_batch_into_smaller_ones(dataset: DataSet, accumulate: int) -> None:
    single = list(training_batches(samples(dataset), 0))
    pieces = list(training_batches(samples(dataset, train__accumulate=accumulate), 0))
    assert len(pieces) == 5 * accumulate
    for iteration, batch in enumerate(single):
        assert same(joined(pieces[iteration * accumulate : (iteration + 1) * accumulate]), batch)


@pytest.mark.parametrize("start", [0, 3, 4, 5])
def test_starting_later_gives_the_tail(dataset: DataSet, start: int) -> None:
    whole, tail = (list(training_batches(samples(dataset), begin)) for begin in (0, start))
    assert len(tail) == 5 - start
    assert all(same(one, other) for one, other in zip(whole[start:], tail, strict=True))


def test_no_sample_is_lost_or_seen_twice(dataset: DataSet) -> None:
    changes = {"train__batch": 8, "train__iterations": 7, "train__accumulate": 2}
    shares = [training_batches(samples(dataset, **changes), 0, process, 2) for process in range(2)]
    seen = Counter(name for share in shares for batch in share for name in batch.names)
    # 7 iterations of 8 are 8 epochs of 7.
    assert seen == {f"train_{n}": 8 for n in range(PAIRS)}


@pytest.mark.parametrize(("processes", "accumulate"), [(3, 1), (4, 2), (8, 1)])
def test_a_batch_that_cannot_be_shared_out_is_refused(dataset: DataSet, processes: int, accumulate: int) -> None:
    stream = training_batches(samples(dataset, train__accumulate=accumulate), 0, 0, processes)
    with pytest.raises(CrissCrossError, match=rf"train.batch must be .* \({processes} x {accumulate}\), got 4"):
        next(stream)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_models_own_chance_is_left_alone(dataset: DataSet, workers: int) -> None:
    before = torch.get_rng_state()
    list(training_batches(samples(dataset, train__iterations=1), 0, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_bad_file_ends_as_one_line(tmp_path: Path) -> None:
    broken = open_folder(write_folder(tmp_path / "set", {"train": 1}))
    broken.split("train")[0].mask.write_bytes(b"")
    with pytest.raises(CrissCrossError, match=r"train_0\.png: empty file"):
        samples(broken)[0]


# --- open files ---


@pytest.mark.parametrize(
    ("limits", "raised"),
    [
        ((16, 16), None),
        ((16, 58), None),
        # 11 are open, 16 for all, 16 for each of 2 workers.
        ((16, 59), (59, 59)),
        ((16, 4096), (59, 4096)),
        ((58, resource.RLIM_INFINITY), (59, resource.RLIM_INFINITY)),
        ((59, 59), ()),
        ((1024, 4096), ()),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), ()),
    ],
)
def test_workers_get_the_open_files_that_they_need(monkeypatch, limits, raised) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(open_files, "_open_files", lambda: 11)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda kind, wanted: made.append(wanted))
    if raised is None:
        message = (
            rf"may open {limits[1]} files at a time, with --workers 2 it needs 59: raise the limit \(ulimit -n 59\)"
        )
        with pytest.raises(CrissCrossError, match=message):
            open_files.allow_open_files(2)
    else:
        open_files.allow_open_files(2)
    assert made == ([raised] if raised else [])


def test_running_out_of_open_files_is_one_line(dataset: DataSet, monkeypatch) -> None:
    def runs_out(*ignored: object) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(DataLoader, "__iter__", lambda self: iter(runs_out, None))
    with pytest.raises(
        CrissCrossError, match=r"^too many open files: raise the limit \(ulimit -n 4096\), or lower --work"
    ):
        next(training_batches(samples(dataset), 0))


@pytest.mark.slow
@pytest.mark.parametrize("limit", [16, 20, 24])
def test_training_with_few_open_files_ends(tmp_path: Path, limit: int) -> None:
    folder = write_shapes(tmp_path / "data")
    (tmp_path / "e.yaml").write_text(json.dumps(EXPERIMENT))
    words = [
        "train",
        tmp_path / "e.yaml",
        "--data",
        folder,
        "--out",
        tmp_path / "run",
        "--device",
        "cpu",
        "--workers",
        "2",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "crisscross", *map(str, words)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"this process may open {limit} files at a time, with --workers 2 it needs" in done.stderr
