"""The network for clips: with one frame the one for images, with more what a literal clip gives."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_networks import TINY, drawn, network
from clips_data import draw_frame, write_videos
from PIL import Image
from torch.nn import functional

import crisscross
from crisscross import zoo
from crisscross.checkpoints.warm_start import start_from
from crisscross.cli import main
from crisscross.data import open_folder
from crisscross.engine.semantic.evaluate import evaluate
from crisscross.errors import CrissCrossError
from crisscross.inference import Predictor
from crisscross.losses import create_loss
from crisscross.models import VideoSegmenter

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_configuration_chooses_the_network():
    assert type(network(0)) is crisscross.Segmenter
    assert type(network(1)) is VideoSegmenter


def test_one_frame_is_the_network_for_images_with_the_same_weights(tmp_path):
    flat, clip = network(0), network(1)
    crisscross.save(flat, tmp_path / "flat.safetensors")
    assert start_from(clip, tmp_path / "flat.safetensors").facts == {"init": str(tmp_path / "flat.safetensors")}
    x = torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        torch.testing.assert_close(clip(x).main, flat(x).main, rtol=1e-5, atol=1e-5)
        # The gate counts: without it everything above would hold for any attention.
        flat.head.attend.attention.gamma.data.fill_(0.0)
        assert (clip(x).main - flat(x).main).abs().max() > 1e-3


@pytest.mark.parametrize(("label", "places"), [("middle", [1]), ("last", [2]), ("every", [0, 1, 2])])
def test_clips_are_attended_one_by_one_and_labeled_where_they_should(label, places):
    """Literally: features, 3-D attention and classifier of one clip at a time."""
    segmenter = network(3, label)
    head, x = segmenter.head, torch.randn(6, 3, 48, 64)
    with torch.no_grad():
        expected = []
        for clip in (x[:3], x[3:]):
            features = segmenter.backbone(clip)[-1]
            volume = head.reduce(features).permute(1, 0, 2, 3)[None]
            for _ in range(3):
                volume = head.attend.attention(volume)
            attended = volume[0].permute(1, 0, 2, 3)
            expected += [head.classify(head.fuse(torch.cat([features, head.refine(attended)], 1)))[places]]
        torch.testing.assert_close(segmenter.coarse(x).main, torch.cat(expected), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(segmenter(x.view(2, 3, 3, 48, 64), coarse=True).main, torch.cat(expected))
    with pytest.raises(ValueError, match="whole clips of 3 frames, got 4"):
        segmenter(torch.randn(4, 3, 48, 64))


def test_neighbors_in_time_are_seen_and_other_clips_are_not():
    segmenter, x = network(3), torch.randn(6, 3, 48, 64)
    other = x.clone()
    other[0] += 1
    with torch.no_grad():
        difference = (segmenter.coarse(x).main - segmenter.coarse(other).main).abs().amax((1, 2, 3))
    assert difference[0] > 1e-4 and difference[1] == 0


def literal_labels(segmenter: VideoSegmenter, frames: list[torch.Tensor]) -> list[torch.Tensor]:
    """Every frame in the middle (or at the end) of a clip of its own, whose ends repeat."""
    length, found = segmenter.frames, []
    place = length // 2 if segmenter.experiment.model.label == "middle" else length - 1
    for index in range(len(frames)):
        numbers = [min(max(index - place + k, 0), len(frames) - 1) for k in range(length)]
        clip = torch.cat([segmenter.preprocess(frames[number]) for number in numbers])
        with torch.no_grad():
            coarse = segmenter.coarse(clip).main
        full = functional.interpolate(coarse, frames[index].shape[-2:], mode="bilinear", align_corners=False)
        found.append(full[0].argmax(0).to(torch.uint8))
    return found


@pytest.mark.parametrize("label", ["middle", "last"])
def test_a_stream_is_labeled_as_its_clips_are_and_each_frame_is_seen_once(label, monkeypatch):
    segmenter, frames, seen = network(3, label), drawn(6), []
    expected = literal_labels(segmenter, frames)
    forward = segmenter.backbone.forward
    monkeypatch.setattr(segmenter.backbone, "forward", lambda x: seen.append(len(x)) or forward(x))
    found = list(segmenter.predictor.label_frames(iter(frames)))
    assert seen == [1] * 6
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours == theirs.numpy()).mean() > 0.999
    assert len({bytes(labels) for labels in found}) > 1


def test_every_frame_of_a_stream_comes_from_the_clip_that_holds_it():
    segmenter, frames = network(3, "every"), drawn(5)
    found = list(segmenter.predictor.label_frames(frames))
    with torch.no_grad():
        for start, places in ((0, (0, 1, 2)), (2, (1, 2))):
            coarse = segmenter.coarse(torch.cat([segmenter.preprocess(f) for f in frames[start : start + 3]])).main
            full = functional.interpolate(coarse, (48, 64), mode="bilinear", align_corners=False).argmax(1)
            for place in places:
                assert (found[start + place] == full[place].numpy()).mean() > 0.999


def test_windows_scales_and_mirror_images_work_on_clips():
    changes = {
        "inference.mode": "slide",
        "inference.window": [32, 40],
        "inference.stride": [16, 24],
        "inference.ratios": [1.0, 1.5],
    }
    segmenter, still = network(3, **changes), [drawn(1)[0]] * 4
    found = list(segmenter.predictor.label_frames(still, tta=True))
    # A video that stands still is labeled like its image, as a clip that stands still.
    image = still[0].permute(1, 2, 0).numpy()
    expected = segmenter.predict(image, tta=True).labels
    assert all((labels == expected).mean() > 0.999 for labels in found)


@pytest.mark.parametrize("label", ["middle", "last", "every"])
def test_a_function_for_whole_clips_labels_as_the_network_that_sees_each_frame_once(label):
    segmenter = network(3, label, **{"inference.ratios": [0.75, 1.0], "data.flip_pairs": [[0, 1]]})
    whole_clips = Predictor(
        lambda x: segmenter.coarse(x).main, segmenter.predictor.card, torch.as_tensor, torch.no_grad
    )
    frames = drawn(5)
    for tta in (False, True):
        expected = list(segmenter.predictor.label_frames(frames, tta))
        for ours, theirs in zip(whole_clips.label_frames(frames, tta), expected, strict=True):
            assert (ours == theirs).mean() > 0.999
        assert (
            whole_clips.predict(frames[1], tta=tta).labels == segmenter.predict(frames[1], tta=tta).labels
        ).mean() > 0.999
    assert len({bytes(labels) for labels in expected}) == 5


def test_a_stream_shorter_than_a_clip_or_of_two_sizes_is_refused():
    segmenter = network(3)
    with pytest.raises(CrissCrossError, match="2 frames, but the network takes clips of 3"):
        list(segmenter.predictor.label_frames(drawn(2)))
    with pytest.raises(CrissCrossError, match="must have one size"):
        list(segmenter.predictor.label_frames([*drawn(2), *drawn(1, 32, 32)]))


def test_the_loss_reads_every_labeled_frame():
    segmenter = network(3, "every").train()
    logits = segmenter(torch.randn(6, 3, 48, 64), coarse=True)
    assert logits.main.shape[0] == logits.aux.shape[0] == 6
    logits.main.retain_grad()
    labels = torch.randint(0, 2, (6, 48, 64), dtype=torch.uint8)
    loss = create_loss(segmenter.experiment.loss, 255)(logits.main, logits.aux, labels)
    loss.total.backward()
    assert (logits.main.grad.abs().amax((1, 2, 3)) > 0).all()


def test_a_file_keeps_what_kind_of_network_it_is(tmp_path):
    segmenter, frames = network(3), drawn(4)
    crisscross.save(segmenter, tmp_path / "clip.safetensors")
    loaded = crisscross.load(tmp_path / "clip.safetensors").to(memory_format=torch.channels_last)
    assert isinstance(loaded, VideoSegmenter)
    fast = crisscross.optimize(loaded)
    for ours, theirs, rewritten in zip(
        *(s.predictor.label_frames(frames) for s in (segmenter, loaded, fast)), strict=True
    ):
        assert (ours == theirs).mean() > 0.999 and (ours == rewritten).mean() > 0.99


def test_the_weights_of_clips_start_a_network_for_images(tmp_path):
    clip, flat = network(3), network(0)
    crisscross.save(clip, tmp_path / "clip.safetensors")
    start_from(flat, tmp_path / "clip.safetensors")
    query = clip.head.attend.attention.query.weight
    assert query.dim() == 5 and torch.equal(flat.head.attend.attention.query.weight, query[..., 0])
    assert torch.equal(flat.head.classify.weight, clip.head.classify.weight)


def test_other_shapes_are_no_start(tmp_path):
    crisscross.save(network(0, **{"model.head.channels": 24}), tmp_path / "wide.safetensors")
    wanted = r"wide\.safetensors: .* has shape .*; for the network of these weights add --set model\.head\.channels=24"
    with pytest.raises(CrissCrossError, match=wanted):
        start_from(network(3), tmp_path / "wide.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos") / "data")


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory) -> Path:
    """A recipe's clips, trained by the command on drawn videos."""
    out = tmp_path_factory.mktemp("runs") / "clips"
    changes = {**TINY, "data.name": "folder", "augment.crop": [48, 64], "train.batch": 4, "train.iterations": 40}
    changes |= {
        "model.output_stride": 8,
        "loss.class_weights": [0.5, 4.0],
        "train.validate_every": 20,
        "optim.lr": 1e-2,
    }
    del changes["data.classes"], changes["data.palette"]
    words = [word for key, value in changes.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    words += [
        "--set",
        "augment.ratio=[1, 1]",
        "--set",
        "model.pretrained=false",
        "--set",
        "model.frozen=[]",
        "--set",
        "optim.warmup=4",
    ]
    command = [
        "train",
        "ccnet3d-light",
        "--data",
        str(folder),
        "--out",
        str(out),
        "--workers",
        "0",
        "--device",
        "cpu",
        *words,
    ]
    assert main(command) == 0
    return out


def test_a_recipe_trains_evaluates_and_predicts_by_the_usual_commands(run, folder, tmp_path, capsys):
    scores = tmp_path / "scores.json"
    assert (
        main(["evaluate", str(run), "--data", str(folder), "--split", "val", "--json", str(scores), "--device", "cpu"])
        == 0
    )
    assert "temporal consistency" in capsys.readouterr().out
    found = json.loads(scores.read_text())
    assert found["images"] == 4 and found["miou"] > 0.6
    assert 0.5 < found["temporal_consistency"]["pixels"] <= 1
    Image.fromarray(draw_frame(0)[0]).save(tmp_path / "still.png")
    assert (
        main(["predict", str(run), str(tmp_path / "still.png"), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    )
    assert np.asarray(Image.open(tmp_path / "out" / "labels" / "still.png")).shape == (48, 64)


def test_consistency_of_an_evaluation_is_that_of_its_labels(run, folder):
    """Counted again from what is saved, pair of frames by pair of frames."""
    dataset, labels, masks = open_folder(folder), {}, {}
    segmenter = crisscross.load(run)
    saved = evaluate(segmenter, dataset, "train", save=lambda pair, found: labels.update({pair.name: found}))
    for pair in dataset.split("train"):
        masks[pair.name] = np.asarray(Image.open(pair.mask))
    stable = kept = 0
    for first, second in (
        ("a_000", "a_030"),
        ("a_030", "a_060"),
        ("a_150", "a_180"),
        ("a_180", "a_210"),
        ("b_f007", "b_f009"),
        ("b_f009", "b_f011"),
    ):
        same = masks[first] == masks[second]
        stable += same.sum()
        kept += (same & (labels[first] == labels[second])).sum()
    assert saved.consistency is not None and saved.consistency.pixels == pytest.approx(kept / stable)


def test_a_run_too_short_for_the_clips_is_found_before_training(folder, tmp_path, capsys):
    command = ["train", "ccnet3d-light", "--data", str(folder), "--out", str(tmp_path / "run"), "--device", "cpu"]
    words = ["data.name=folder", "model.frames=5", "model.backbone=test_resnet", "loss.class_weights=[]"]
    assert main([*command, *(word for change in words for word in ("--set", change))]) == 2
    assert "only 3 frames in a row at a_000, but a clip has 5" in capsys.readouterr().err
    with pytest.raises(CrissCrossError, match="only 3 frames in a row at a_000, but a clip has 5"):
        evaluate(network(5), open_folder(folder), "train")
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_the_recipes_are_the_paper_s_and_a_light_one():
    paper = zoo.recipe("ccnet3d-r50-camvid").model
    assert (paper.frames, paper.head.recurrence, paper.output_stride, paper.head.channels) == (5, 3, 8, 512)
    light = zoo.recipe("ccnet3d-light").model
    assert (light.frames, light.head.recurrence, light.backbone) == (3, 3, "tf_efficientnet_lite0")
