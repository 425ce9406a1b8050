"""Fixtures that several test files share."""

import signal

import pytest
import torch

from crisscross import files
from crisscross.speed import winograd_layers


def pytest_configure():
    """Ctrl-C works in the tests' processes, also where a shell's background job, which ignores it, handed that down."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def notes_of_their_own(monkeypatch, tmp_path_factory):
    """What tests write is not noted in the user's cache folder."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setattr(files, "user_cache", lambda name: folder / name)


@pytest.fixture
def fast_calls(monkeypatch):
    """The dilation of each convolution that Winograd computes."""
    calls, convolve = [], winograd_layers.convolve

    def counted(x, weight_PCD, bias, padding, dilation):
        calls.append(dilation)
        return convolve(x, weight_PCD, bias, padding, dilation)

    monkeypatch.setattr(winograd_layers, "convolve", counted)
    return calls


@pytest.fixture(scope="module")
def one_thread():
    """One thread for a whole file: small networks are faster so, and sums come in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
