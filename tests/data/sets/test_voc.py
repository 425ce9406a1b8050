"""Pascal VOC with the labels of the Semantic Boundaries Dataset, made from its .mat files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from preparing import refusal
from published_data import draw_labels, voc_with_sbd

from crisscross.data import open_dataset
from crisscross.data.files.reading import read_pair
from crisscross.data.preparation import prepare
from crisscross.data.sets import voc


@pytest.mark.parametrize("inside", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_labels_of_sbd(tmp_path: Path, inside: str) -> None:
    root = voc_with_sbd(tmp_path)
    done = prepare("voc2012aug", root / inside)
    (line,) = done.lines
    assert line == "warning: train of voc2012aug: 5 = 2 + 3 images; the published ones are 10,582 = 1,464 + 9,118"
    dataset = open_dataset("auto", root)
    assert [pair.name for pair in dataset.split("train")] == [
        *("2007_000000", "2007_000001"),
        *("2009_000001", "2010_000007", "2011_000003"),
    ]
    for pair in dataset.split("train")[2:]:
        assert np.array_equal(read_pair(pair, dataset)[1], draw_labels(sum(map(ord, pair.name)), 21, 48, 64))
        with Image.open(pair.mask) as image:
            assert image.mode == "P" and image.getpalette()[3:6] == [128, 0, 0]
    # VOC's own images keep VOC's own labels.
    folder = root / "VOCdevkit/VOC2012"
    assert {path.stem for path in (folder / voc.AUGMENTED).iterdir()} == {"2009_000001", "2010_000007", "2011_000003"}


def test_the_published_counts_are_told_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voc, "TRAIN", 2)
    monkeypatch.setattr(voc, "AUG", 3)
    assert prepare("voc2012aug", voc_with_sbd(tmp_path)).lines == ("train of voc2012aug: 5 = 2 + 3 images",)


def test_what_can_be_wrong_with_sbd(tmp_path: Path) -> None:
    root = voc_with_sbd(tmp_path)
    victim = root / "benchmark_RELEASE/dataset/cls/2010_000007.mat"
    whole = victim.read_bytes()
    for content in (b"", b"no matlab", whole[: len(whole) // 2]):
        victim.write_bytes(content)
        assert refusal("voc2012aug", root).startswith(f"{victim}: not a .mat file of SBD with GTcls.Segmentation: ")
    # The list is written last, so that a stopped run is not taken for a finished one.
    assert not (root / "VOCdevkit/VOC2012" / voc.LISTS / "aug.txt").exists()
    victim.unlink()
    assert f"{victim}: no such file; SBD's lists name it" in refusal("voc2012aug", root)
    (root / "benchmark_RELEASE").rename(root / "elsewhere")
    assert "benchmark_RELEASE/dataset/cls: no such folder; unpack benchmark.tgz" in refusal("voc2012aug", root)
