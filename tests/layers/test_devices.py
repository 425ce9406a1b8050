"""What `--device` names, on machines with and without a GPU."""

import pytest
import torch

from crisscross.cli import main
from crisscross.errors import CrissCrossError
from crisscross.layers.devices import available_devices, find_device


@pytest.fixture
def machine(monkeypatch):
    """Pretends to have so many GPUs of CUDA, and Apple's or not."""

    def pretend(count: int, mps: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("count", "mps", "auto", "here"),
    [
        (0, False, "cpu", ["cpu"]),
        # Apple's is slower or wrong in places nobody has looked at: it has to be asked for.
        (0, True, "cpu", ["cpu", "mps"]),
        (2, False, "cuda", ["cpu", "cuda", "cuda:0", "cuda:1"]),
    ],
)
def test_what_is_there_is_taken(machine, count, mps, auto, here):
    machine(count, mps)
    assert find_device("auto") == auto
    assert available_devices() == here
    assert [find_device(name) for name in here] == here


@pytest.mark.parametrize(
    ("count", "name", "said"),
    [
        (0, "cuda", "--device cuda is not available here; there is cpu"),
        (0, "mps", "--device mps is not available here; there is cpu"),
        (1, "cuda:1", "--device cuda:1 is not available here; there is cpu, cuda, cuda:0"),
        (1, "gpu", "--device 'gpu' must be auto, cpu, cuda, cuda:N or mps"),
        (1, "cuda:x", "--device 'cuda:x' must be auto"),
        (1, "", "--device '' must be auto"),
    ],
)
def test_what_is_not_there_is_one_line_that_names_what_is(machine, count, name, said):
    machine(count, False)
    with pytest.raises(CrissCrossError) as caught:
        find_device(name)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_every_command_refuses_alike(machine, tmp_path, capsys):
    machine(0, False)
    data = tmp_path / "data"
    for folder in ("images", "masks"):
        (data / folder).mkdir(parents=True)
    for words in (
        ["benchmark", "demo", "--size", "32x32"],
        ["evaluate", "camvid-light", "--data", str(data), "--name", "folder"],
    ):
        assert main([*words, "--device", "cuda:7"]) == 2
        assert "--device cuda:7 is not available here; there is cpu" in capsys.readouterr().err
