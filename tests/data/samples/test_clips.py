"""Clips: consecutive frames by their names, never across a gap, a video or a split; one draw of chance for all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clips_data import write_videos
from paths import SHARED

from crisscross.config import Experiment, override
from crisscross.data import DataSet, Pair, open_camvid, open_dataset, open_folder
from crisscross.data.files.reading import read_pair
from crisscross.data.samples.clips import ClipSamples, frame_of, runs, training_clips, training_samples, windows
from crisscross.data.samples.loader import TrainingSamples, training_batches
from crisscross.errors import CrissCrossError
from crisscross.metrics import StableCounts

CAMVID = SHARED / "data" / "camvid"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> DataSet:
    return open_folder(write_videos(tmp_path_factory.mktemp("videos") / "data"))


def named(*names: str) -> list[Pair]:
    return [Pair(name, Path(name), Path(name)) for name in names]


def names_of(found) -> list[list[str]]:
    return [[pair.name for pair in run] for run in found]


def experiment(*changes: str) -> Experiment:
    return override(Experiment(), ["augment.crop=[32, 40]", *changes])


def test_names_tell_video_and_frame():
    assert frame_of("0001TP_006690") == ("0001TP_", 6690)
    assert frame_of("0006R0_f00930") == ("0006R0_f", 930)
    assert frame_of("12") == ("", 12)
    assert frame_of("street") is None


def test_runs_end_at_gaps_and_videos(dataset):
    assert names_of(runs(dataset, dataset.split("train"))) == [
        ["a_000", "a_030", "a_060"],
        ["a_150", "a_180", "a_210"],
        ["b_f007", "b_f009", "b_f011"],
    ]


def test_runs_are_in_order_of_time_and_bear_a_step_that_is_a_little_off():
    video = DataSet("d", Path(), ("a", "b"), ((0, 0, 0),) * 2, {}, video=True)
    # Numbers without leading zeros; 61 is off by one, as a frame of CamVid is.
    pairs = named("v120", "v61", "v30", "v0", "w3", "v90", "alone")
    assert names_of(runs(video, pairs)) == [["v0", "v30", "v61", "v90", "v120"], ["w3"], ["alone"]]
    assert names_of(runs(video, named("v0", "v30", "v60", "v106", "x"))) == [["v0", "v30", "v60"], ["v106"], ["x"]]


def test_single_images_are_runs_of_their_own(dataset):
    still = replace(dataset, video=False)
    assert all(len(run) == 1 for run in runs(still, still.split("train")))
    assert names_of(runs(still, still.split("train"))) == [[pair.name] for pair in still.split("train")]


@pytest.mark.skipif(not CAMVID.is_dir(), reason="the real CamVid is not here")
def test_camvid_falls_into_the_videos_that_it_was_cut_from():
    camvid = open_camvid(CAMVID)
    lengths = {split: [len(run) for run in runs(camvid, pairs)] for split, pairs in camvid.splits.items()}
    assert lengths == {"train": [62, 101, 68, 120, 16], "val": [101], "test": [62, 171]}


def literal(count: int, length: int, label: str) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """What the documentation says, frame by frame."""
    if label == "every":
        starts = list(range(0, count - length + 1, length))
        found = [(tuple(range(start, start + length)), tuple(range(length))) for start in starts]
        if rest := count % length:
            found.append((tuple(range(count - length, count)), tuple(range(length - rest, length))))
        return found
    place = {"middle": length // 2, "last": length - 1}[label]
    clamp = lambda frame: min(max(frame, 0), count - 1)  # noqa: E731
    return [(tuple(clamp(i - place + k) for k in range(length)), (place,)) for i in range(count)]


@pytest.mark.parametrize("label", ["middle", "last", "every"])
@pytest.mark.parametrize(("count", "length"), [(7, 3), (6, 3), (3, 3), (9, 4), (5, 5), (4, 1), (8, 5)])
def test_windows_are_the_literal_ones(label, count, length):
    found = list(windows(range(count), length, label))
    assert found == literal(count, length, label)
    assert [clip[place] for clip, places in found for place in places] == list(range(count))


@pytest.mark.parametrize(("label", "ahead"), [("middle", 3), ("last", 3), ("every", 3)])
def test_windows_pull_no_frame_before_it_is_needed(label, ahead):
    pulled = []

    def frames():
        for number in range(100):
            pulled.append(number)
            yield number

    for number, _ in enumerate(windows(frames(), 3, label)):
        done = (number + 1) * (3 if label == "every" else 1)
        assert len(pulled) <= done + ahead


def test_a_sequence_shorter_than_a_clip_is_one_line(dataset):
    with pytest.raises(CrissCrossError, match=r"^2 frames, but the network takes clips of 3; [^\n]+$"):
        list(windows(range(2), 3, "middle"))
    with pytest.raises(CrissCrossError, match=r"only 3 frames in a row at a_000, but a clip has 5; set model\.frames"):
        training_clips(dataset, dataset.split("train"), 5, "middle")


def test_clips_of_single_images_are_refused(dataset):
    still = replace(dataset, video=False)
    with pytest.raises(CrissCrossError, match=r"write `video: true` in .*dataset\.yaml"):
        training_clips(still, still.split("train"), 3, "middle")
    assert len(training_clips(still, still.split("train"), 1, "middle")) == 9


def test_training_clips_stay_in_their_split_and_their_run(dataset):
    train = dataset.split("train")
    middle = training_clips(dataset, train, 3, "middle")
    assert [clip.name for clip in middle] == [pair.name for run in runs(dataset, train) for pair in run]
    assert [[pair.name for pair in clip.pairs] for clip in middle[2:4]] == [
        ["a_030", "a_060", "a_060"],
        ["a_150", "a_150", "a_180"],
    ]
    assert {pair for clip in middle for pair in clip.pairs} == set(train)
    every = training_clips(dataset, train, 2, "every")
    assert [clip.name for clip in every][:3] == ["a_000 a_030", "a_030 a_060", "a_150 a_180"]


@pytest.mark.parametrize(("label", "labeled"), [("middle", [1]), ("last", [2]), ("every", [0, 1, 2])])
def test_all_frames_of_a_clip_get_the_same_chance(dataset, label, labeled):
    """Frame t is frame 0 with every value t higher, its labels t higher: so must be what comes out of the chance."""
    y, x = np.mgrid[:48, :64]
    base, classes = np.stack([2 * x + 20, 3 * y + 20, x + y + 20], 2).astype(np.uint8), ((x // 8 + y // 8) % 2)

    def read(pair, of):
        t = int(pair.name[-3:]) // 30 % 3
        return base + np.uint8(t), (classes + 2 * t).astype(np.uint8)

    given = experiment("model.frames=3", f"model.label={label}", "augment.distortion=false")
    samples = ClipSamples(dataset, dataset.split("train")[:3], given, read)
    crops = set()
    for n in range(8):
        x, mask, _ = samples[n]
        assert x.shape == (3, 3, 32, 40) and mask.shape == (len(labeled), 32, 40)
        times = [int(pair.name[-3:]) // 30 for pair in samples.clips[samples.place_at(n, len(samples.clips))].pairs]
        std = torch.tensor(given.preprocess.std)[:, None, None]
        valid = mask[0] != 255
        for place, t in enumerate(times):
            # Resizing cuts off: the difference is one value of 255 more or less at most.
            assert ((x[place] - x[0]) * std)[:, valid].sub(t - times[0]).abs().max() < 1.01
        for row, place in enumerate(labeled):
            assert torch.equal(mask[row][valid].int() - 2 * times[place], mask[0][valid].int() - 2 * times[labeled[0]])
        crops.add(float(x[0].sum()))
    assert len(crops) == 8


def test_colors_are_distorted_alike(dataset):
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    labels = np.indices((48, 64)).sum(0).astype(np.uint8) % 2
    samples = ClipSamples(dataset, dataset.split("train"), experiment("model.frames=3"), lambda p, d: (image, labels))
    plain = TrainingSamples(dataset, dataset.split("train"), experiment(), lambda p, d: (image, labels))
    for n in range(6):
        clip, single = samples[n][0], plain[n][0]
        assert torch.equal(clip[0], clip[1]) and torch.equal(clip[0], clip[2])
        # A clip of one image over and over is what the image alone becomes.
        assert torch.equal(clip[0], single)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("frames", [0, 3])
def test_corners_of_rotated_samples_have_the_mean_color_of_the_experiment(dataset, frames, order):
    words = ("augment.rotation=40", "augment.rotation_chance=1", "augment.crop=[200, 200]", "augment.ratio=[1, 1]")
    normal = ("preprocess.mean=[10, 200, 30]", "preprocess.std=[50, 50, 50]", f"preprocess.order={order}")
    tree = experiment(f"model.frames={frames}", "augment.distortion=false", "augment.max_fraction=1", *words, *normal)
    for n in range(4):
        image, labels, _ = training_samples(dataset, dataset.split("train"), tree, read_pair)[n]
        assert labels[..., 0, 0].eq(dataset.ignore).all() and not labels.eq(dataset.ignore).all()
        assert image[..., 0, 0].abs().max() == 0


def test_batches_hold_one_clip_behind_the_other(dataset):
    given = experiment(
        "model.frames=3", "model.label=every", "train.batch=4", "train.accumulate=2", "train.iterations=1"
    )
    samples = training_samples(dataset, dataset.split("train"), given, read_pair)
    batches = list(training_batches(samples, 0))
    assert [tuple(batch.images.shape) for batch in batches] == [(6, 3, 32, 40)] * 2
    assert [tuple(batch.labels.shape) for batch in batches] == [(6, 32, 40)] * 2
    assert torch.equal(batches[1].images[3:], samples[3][0])
    assert isinstance(training_samples(dataset, dataset.split("train"), experiment(), read_pair), TrainingSamples)


def test_frames_of_two_sizes_are_refused(dataset):
    def read(pair, of):
        height = 40 if pair.name == "a_030" else 48
        return np.zeros((height, 64, 3), np.uint8), np.zeros((height, 64), np.uint8)

    samples = ClipSamples(dataset, dataset.split("train")[:3], experiment("model.frames=3"), read)
    with pytest.raises(CrissCrossError, match=r"a_030\.png: .* one size, got 64 x 48 and 64 x 40|got 64 x 40 and"):
        [samples[n] for n in range(3)]


def test_a_folder_says_that_it_holds_videos(dataset, tmp_path):
    assert dataset.video
    (tmp_path / "bad" / "images").mkdir(parents=True)
    (tmp_path / "bad" / "masks").mkdir()
    (tmp_path / "bad" / "dataset.yaml").write_text("classes: [a, b]\nvideo: 3\n")
    with pytest.raises(CrissCrossError, match=r"dataset\.yaml: video must be true or false, got 3"):
        open_dataset("folder", tmp_path / "bad")


def test_frames_are_not_held_out_one_by_one(tmp_path):
    root = write_videos(tmp_path / "data")
    for split in ("train", "val"):
        (root / f"{split}.txt").unlink()
    with pytest.raises(CrissCrossError, match=r"frames of videos need train\.txt and val\.txt"):
        open_folder(root)


def test_temporal_consistency_by_hand():
    """Four pixels stay (class 0 thrice, class 1 once), one moves, one is ignored in the second frame."""
    truth = torch.tensor([[0, 0, 0, 1, 1, 0]]), torch.tensor([[0, 0, 0, 1, 0, 255]])
    # Right twice, wrong but constant, changed; the last two do not count.
    predicted = torch.tensor([[0, 1, 0, 1, 1, 0]]), torch.tensor([[0, 1, 1, 1, 0, 1]])
    counts = StableCounts(3)
    counts.update(predicted, truth)
    assert counts.counts.tolist() == [[3, 2], [1, 1], [0, 0]]
    found = counts.scores()
    assert found.pixels == 3 / 4
    assert found.by_class == (2 / 3, 1.0, None)
    assert found.mean == pytest.approx((2 / 3 + 1) / 2)
    assert StableCounts(2).scores().pixels is None
