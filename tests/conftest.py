"""Fixtures that several test files share."""

import importlib.util
import os
import signal

import pytest
import torch

from crisscross import files
from crisscross.speed import winograd_layers

# The app and the site are tested where gradio is: `make test-pages` names the folders, which then fail without it.
collect_ignore = [] if importlib.util.find_spec("gradio") else ["app", "pages"]


def pytest_configure():
    """Settings of the tests' process, which the processes that they start inherit.

    One thread: small networks are faster so, above all on a busy machine, and sums come in one order. Ctrl-C works,
    also where a shell's background job, which ignores it, handed that down.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    # Tests that import ONNX Runtime themselves report nothing either.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    torch.set_num_threads(1)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# Beginnings of environment variables. Others are set by packages when they are imported, such as OpenCV's own path.
VARIABLES = ("ACCELERATE_", "COLUMNS", "CRISSCROSS_", "HF_", "HOME", "NO_COLOR", "OMP_", "PYTHON", "TERM", "XDG_")


def process_settings() -> dict[str, object]:
    """What belongs to the whole process: a test that leaves it changed changes the tests after it."""
    return {
        "torch.get_num_threads()": torch.get_num_threads(),
        "torch.get_default_dtype()": torch.get_default_dtype(),
        "torch.is_grad_enabled()": torch.is_grad_enabled(),
        "torch.are_deterministic_algorithms_enabled()": torch.are_deterministic_algorithms_enabled(),
        "torch.get_float32_matmul_precision()": torch.get_float32_matmul_precision(),
        "torch.backends.cudnn.benchmark": torch.backends.cudnn.benchmark,
        "the handler of SIGINT": signal.getsignal(signal.SIGINT),
        "the current folder": os.getcwd(),
        **{f"os.environ[{key!r}]": value for key, value in os.environ.items() if key.startswith(VARIABLES)},
    }


@pytest.fixture(scope="module", autouse=True)
def unchanged_settings():
    """A test file that leaves a setting of the process changed fails, after its last test."""
    before = process_settings()
    yield
    after = process_settings()
    torch.set_num_threads(before["torch.get_num_threads()"])
    torch.set_default_dtype(before["torch.get_default_dtype()"])
    changed = {key: (before.get(key), after.get(key)) for key in before.keys() | after.keys()}
    changed = {key: values for key, values in changed.items() if values[0] != values[1]}
    assert not changed, f"this test file changed (before, after): {changed}"


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


@pytest.fixture(scope="module")
def exports():
    """Skip a whole file where PyTorch is too old to export networks for images of any size."""
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 14):
        pytest.skip("needs torch 2.14")
