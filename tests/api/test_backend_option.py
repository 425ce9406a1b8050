"""`backend` of predict, evaluate, serve and videos: what each hands to the choice, and what uses the chosen one."""

import numpy as np
import pytest
from small_runs import small_run

import crisscross
from crisscross import cli, service
from crisscross.data import open_dataset
from crisscross.inference import Predictor
from crisscross.measurement import backends

HERE = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("small"))


@pytest.fixture
def chosen(monkeypatch):
    """(backend, images, sample) of each choice; what is chosen labels everything as class 1."""
    calls = []

    def on_backend(network, backend, images, sample):
        calls.append((backend, images, sample()))

        def ones(x):
            logits = np.zeros((len(x), len(network.classes), 2, 2), np.float32)
            logits[:, 1] = 1
            return logits

        return Predictor(ones, network.predictor.card)

    monkeypatch.setattr(backends, "on_backend", on_backend)
    return calls


def test_images(run, chosen):
    found = crisscross.predict(run, run.data / "images", backend="auto", **HERE)
    assert all((one.result.labels == 1).all() for one in found)
    ((backend, images, sample),) = chosen
    assert (backend, images, sample.shape) == ("auto", 12, (64, 80, 3))
    (one,) = crisscross.predict(run, run.data / "images" / "p00.png", big=True, backend="onnx", **HERE)
    assert (one.result.labels == 1).all() and chosen[1][:2] == ("onnx", None)


def test_a_split(run, chosen):
    result = crisscross.evaluate(run, run.data, "val", backend="openvino", workers=0, **HERE)
    ((backend, images, sample),) = chosen
    assert (backend, images) == ("openvino", len(open_dataset("auto", run.data).splits["val"]))
    assert sample.dtype == np.uint8 and (np.delete(result.confusion, 1, 1) == 0).all()


def test_videos(run, chosen, tmp_path):
    pytest.importorskip("av")
    from clip_networks import film

    video = film(tmp_path / "a.mp4", range(0, 120, 40))
    words = ["predict", str(run.folder), str(video), "--out", str(tmp_path / "b.mp4"), "--device", "cpu"]
    assert cli.main([*words, "--backend", "auto", "--view", "color"]) == 0
    ((backend, images, sample),) = chosen
    assert (backend, images, sample.ndim) == ("auto", None, 3)


def test_the_service(run, chosen, monkeypatch):
    given = []
    monkeypatch.setattr(service, "serve", lambda app, listening, timeout: None)
    create = service.create_app
    monkeypatch.setattr(service, "create_app", lambda found, limits: given.append(found) or create(found, limits))
    assert cli.main(["serve", str(run.folder), "--device", "cpu", "--port", "0", "--backend", "auto"]) == 0
    assert chosen[0][:2] == ("auto", None)
    assert (given[0].predict(np.zeros((40, 40, 3), np.uint8)).labels == 1).all()


def test_without_it_or_with_torch_nothing_is_chosen(run, chosen):
    image = run.data / "images" / "p00.png"
    for backend in (None, "torch"):
        crisscross.predict(run, image, backend=backend, **HERE)
    assert not chosen


def test_what_does_not_go_together_is_one_line(run, tmp_path):
    def refused(text, source=run, **options):
        with pytest.raises(crisscross.CrissCrossError, match=text):
            crisscross.predict(source, run.data / "images" / "p00.png", **{**HERE, **options})

    refused("--optimize is for --backend torch; --backend auto computes in float32", backend="auto", optimize=True)
    refused("--precision is for --backend torch", backend="onnx", precision="bf16")
    refused("backend must be one of torch, onnx, openvino, auto, got 'fast'", backend="fast")
    (tmp_path / "model.onnx").touch()
    refused(r"--backend: .*model\.onnx is an exported network", str(tmp_path / "model.onnx"), backend="auto")
