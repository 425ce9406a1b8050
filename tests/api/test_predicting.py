"""`crisscross.predict`: results and files are the same labels; what cannot be read is said."""

import numpy as np
import pytest
from PIL import Image
from small_runs import small_run

import crisscross
from crisscross.errors import CrissCrossWarning

HERE = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("small"))


def test_results_and_files_hold_the_same_labels(run, tmp_path, capsys):
    found = crisscross.predict(run, str(run.data / "images"), str(tmp_path / "out"), **HERE)
    network = run.load()
    assert len(found) == 12 and capsys.readouterr() == ("", "")
    for one in found[:3]:
        labels = network.predict(one.source).labels
        assert np.array_equal(one.result.labels, labels)
        assert [path.parent.name for path in one.written] == ["labels", "color", "overlay"]
        assert np.array_equal(np.array(Image.open(one.written[0])), labels)


def test_without_a_folder_nothing_is_written(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = str(run.data / "images" / "p00.png")
    wanted = crisscross.predict(str(run.folder), image, **HERE)[0]
    assert wanted.written == () and not list(tmp_path.iterdir())
    network = run.load()
    for source in (network, crisscross.predictor(network)):
        (one,) = crisscross.predict(source, [image], **HERE)
        assert np.array_equal(one.result.labels, wanted.result.labels)
    (big,) = crisscross.predict(network, image, big=True, block=64, **HERE)
    assert big.result.labels.shape == (64, 80)
    (tta,) = crisscross.predict(network, image, tta=True, **HERE)
    assert np.array_equal(tta.result.labels, network.predict(image, tta=True).labels)


def test_what_cannot_be_read_is_said_and_the_rest_goes_on(run, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    good = run.data / "images" / "p00.png"
    with pytest.warns(CrissCrossWarning, match=r"broken\.png: not an image"):
        broken, one = crisscross.predict(run, [tmp_path / "broken.png", good], **HERE)
    assert one.result is not None and "not an image" in broken.error and broken.result is None
    with pytest.raises(crisscross.CrissCrossError, match=r"broken\.png: not an image"):
        crisscross.predict(run, tmp_path / "broken.png", **HERE)


def test_what_is_wrong_is_one_line(run, tmp_path):
    def refused(text, *given, **options):
        with pytest.raises(crisscross.CrissCrossError, match=text):
            crisscross.predict(*given, **{**HERE, **options})

    image = run.data / "images" / "p00.png"
    refused("no paths are given", run, [])
    refused("nowhere.png: no such file or folder", run, "nowhere.png")
    refused("--block is for --big", run, image, block=64)
    refused("is for instance segmentation", run, image, score=0.5)
    refused("device", run, image, device="gpu")
    refused("a network must be a name, a path or a state dict, got 5", 5, image)
    (tmp_path / "labels").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / "labels" / "p00.png")
    refused("p00.png: exists", run, image, tmp_path)
