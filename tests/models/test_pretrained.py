"""Pretrained weights without a network: from the cache, or refused within seconds."""

import io
import socket
import threading
import urllib.request

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from crisscross.models import pretrained
from crisscross.models.backbones import create_backbone
from crisscross.models.pretrained import NoPretrained, answers

NAME = "tf_efficientnet_lite0"


@pytest.fixture(autouse=True)
def empty_caches(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("CRISSCROSS_OFFLINE", raising=False)


def no_request(*args, **kwargs):
    raise AssertionError("a server was asked")


def test_offline_no_server_is_asked(monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", no_request)
    monkeypatch.setattr(socket, "getaddrinfo", no_request)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    wanted = (
        r"no pretrained weights for tf_efficientnet_lite0 are available \(not in the cache, and downloads are off\)"
    )
    with pytest.raises(NoPretrained, match=wanted):
        create_backbone(NAME, 16, pretrained=True)


def test_a_server_that_does_not_answer_is_asked_once(monkeypatch):
    asked = []
    monkeypatch.setattr(pretrained, "answers", lambda address: asked.append(address) or False)
    monkeypatch.setattr(socket, "getaddrinfo", no_request)
    with pytest.raises(NoPretrained, match=r"huggingface\.co does not answer.*--backbone-weights FILE"):
        create_backbone(NAME, 16, pretrained=True)
    assert len(asked) == 1


def test_a_name_that_is_looked_up_forever_does_not_answer(monkeypatch):
    released = threading.Event()

    def wait(*args, **kwargs):
        released.wait(60)
        return io.BytesIO()

    monkeypatch.setattr(urllib.request, "urlopen", wait)
    monkeypatch.setattr(pretrained, "SECONDS", 0.05)
    assert not answers("https://huggingface.co")
    released.set()


def test_a_server_that_answers(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"

        def refuse():
            connection = server.accept()[0]
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            connection.close()

        threading.Thread(target=refuse, daemon=True).start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(pretrained, "SECONDS", 60)
        assert answers(address)
    assert not answers(address)


def test_weights_in_the_cache_need_no_network(monkeypatch, tmp_path):
    torch.manual_seed(0)
    theirs = timm.create_model("test_resnet").state_dict()
    monkeypatch.setattr(pretrained, "answers", no_request)
    monkeypatch.setattr(socket, "getaddrinfo", no_request)
    repository = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    save_file(theirs, repository / "snapshots" / "abc" / "model.safetensors")
    made = create_backbone("test_resnet", 8, pretrained=True).net.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in made.items())
