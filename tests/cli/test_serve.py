"""`crisscross serve`: what it refuses before it serves, and the network that it serves."""

import json
import socket
import sys

import numpy as np
import pytest
import torch
from coarse_networks import image_of, small_segmenter
from fresh_python import BLOCK, run_python
from tiny_onnx import write_onnx

import crisscross
from crisscross import service
from crisscross.cli import main


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("serve") / "network.safetensors"
    crisscross.save(small_segmenter(), path)
    return path


def test_a_port_in_use_is_one_line(weights, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # Before the network is loaded: there is none of this name.
        for network in (str(weights), "no such network"):
            assert main(["serve", network, "--device", "cpu", "--port", str(port)]) == 2
            error = capsys.readouterr().err
            assert error.startswith(f"crisscross: port {port} of 127.0.0.1 is in use;") and error.count("\n") == 1


@pytest.mark.parametrize("words", [["--port", "65536"], ["--port", "-1"], ["--requests", "0"], ["--timeout", "0"]])
def test_values_that_make_no_sense(weights, words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["serve", str(weights), *words])
    assert caught.value.code == 2 and f"argument {words[0]}: must be" in capsys.readouterr().err


def test_without_the_extra_it_says_how_to_install_it(weights, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", str(weights), "--port", "0"]) == 2
    assert "crisscross serve needs uvicorn: run `pip install '.[serve]'`" in capsys.readouterr().err


def test_polygons_need_opencv(weights, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setattr(service, "serve", lambda app, listening, timeout: None)
    assert main(["serve", str(weights), "--port", "0"]) == 2
    assert "this needs opencv-python-headless, which is not installed here: run `pip install" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_options_reach_the_service(weights, precision, monkeypatch, capsys):
    """The precision holds in the service's thread, where autocast of another does not reach."""
    from threading import Thread

    given, seen = [], []
    monkeypatch.setattr(service, "serve", lambda app, listening, timeout: given.append((app, timeout)))
    create = service.create_app

    def create_app(predictor, limits):
        given.append((predictor, limits))
        return create(predictor, limits)

    monkeypatch.setattr(service, "create_app", create_app)
    hosts = ["--allow-host", "a.example", "--allow-host", "b.example"]
    words = ["--max-size", "3", "--max-pixels", "2", "--requests", "5", "--batch", "4", "--timeout", "7", *hosts]
    assert main(["serve", str(weights), "--device", "cpu", "--port", "0", "--precision", precision, *words]) == 0
    (predictor, limits), (_, timeout) = given
    assert limits == service.Limits(3 * 2**20, 2 * 2**20, 5, 4, 7, ("a.example", "b.example")) and timeout == 7
    line, end = capsys.readouterr().out.splitlines()
    assert line.startswith(f"serving {weights} at http://127.0.0.1:") and end == "stopped"

    def label():
        with predictor.running():
            seen.append(torch.is_autocast_enabled("cpu"))
        image = image_of(40, 56)
        seen.append(predictor.predict(image).labels)

    worker = Thread(target=label)
    worker.start()
    worker.join()
    assert seen[0] == (precision == "bf16")
    if precision == "fp32":
        assert np.array_equal(seen[1], crisscross.predictor(str(weights)).predict(image_of(40, 56)).labels)


def test_an_exported_file_of_someone_else_is_served_without_torch(tmp_path):
    write_onnx(tmp_path / "theirs.onnx")
    (tmp_path / "card.json").write_text(json.dumps({"classes": ["dark", "light"]}))
    words = ["serve", str(tmp_path / "theirs.onnx"), "--card", str(tmp_path / "card.json"), "--port", "0"]
    code = f"""{BLOCK % (("torch", "torchvision", "timm"),)}
from crisscross import service
from crisscross.cli import main

create, service.serve = service.create_app, lambda *given: None
service.create_app = lambda predictor, limits: print(predictor.classes) or create(predictor, limits)
assert main({words!r}) == 0
"""
    classes, line, end = run_python(code).splitlines()
    assert (classes, end) == ("('dark', 'light')", "stopped") and line.startswith("serving ")
