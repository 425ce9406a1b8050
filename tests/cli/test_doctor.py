"""`crisscross doctor` on healthy and on broken installations."""

from __future__ import annotations

import re
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace

import pytest
from fresh_python import BLOCK, run_python

from crisscross.checkpoints.hub.download import cache_folder
from crisscross.cli import FULL, doctor, main

WORKS = {
    "import torch": {"step": "import torch", "found": None},
    "devices": {"found": {"gpus": [], "built_for": "CUDA 13.0", "mps": False, "vectors": "AVX2", "threads": 1}},
    "attention on cpu": {"found": 2e-7},
    "network": {"found": {"load": 0.5, "predict": 0.1}},
}


@pytest.fixture
def computes(monkeypatch):
    """A self-test that finds nothing wrong, in no time."""
    monkeypatch.setattr(doctor, "_steps", lambda modules, findings: WORKS)


def examine(capsys) -> tuple[int, str]:
    code = main(["doctor"])
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err
    return code, shown.out


def fake_torch(monkeypatch, tmp_path: Path, source: str) -> None:
    """Let the process of the self-test import this instead of PyTorch."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def without(monkeypatch, *missing: str, **versions: str) -> None:
    """Let packages be missing, or of another version."""

    def find(name: str) -> str:
        if name in missing:
            raise PackageNotFoundError(name)
        return versions.get(name) or version(name)

    monkeypatch.setattr(doctor, "version", find)


def problems(text: str) -> list[str]:
    return [line.strip() for line in text.split("\nProblems\n")[1].splitlines()]


def test_a_healthy_installation(capsys):
    code, text = examine(capsys)
    assert (code, problems(text)) == (0, ["none"])
    assert f"\n  torch {version('torch')}\n" in text
    found = re.search(r"imported: (\d+) of (\d+)\n", text)
    assert found and found[1] == found[2] and int(found[1]) >= 12
    assert float(re.search(r"attention on cpu: (\S+) off", text)[1]) < 1e-5
    assert "\n  camvid-light: loaded in " in text


def test_pytorch_that_cannot_be_imported(capsys, monkeypatch, tmp_path):
    fake_torch(monkeypatch, tmp_path, "raise OSError('libcudart.so.13: cannot open shared object file')")
    code, text = examine(capsys)
    assert code == 1
    (line,) = [line for line in problems(text) if line.startswith("import torch:")]
    assert "OSError: libcudart.so.13: cannot open" in line and "--force-reinstall torch torchvision`" in line
    assert "attention" not in text and "\n  import torch: failed\n" in text


def test_what_breaks_others_is_named_once(capsys, monkeypatch):
    broken = {"step": "", "error": "RuntimeError: operator torchvision::nms does not exist"}
    steps = WORKS | {"import torchvision": broken, "import timm": broken, "import cv2": {"error": "ImportError: libGL"}}
    monkeypatch.setattr(doctor, "_steps", lambda modules, findings: steps)
    code, text = examine(capsys)
    assert code == 1 and "\n  import timm: failed, as import torchvision\n" in text
    assert [line.split(":")[0] for line in problems(text)] == ["import torchvision", "import cv2"]


def test_pytorch_that_ends_the_process(capsys, monkeypatch, tmp_path):
    fake_torch(monkeypatch, tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    code, text = examine(capsys)
    assert code == 1
    assert problems(text)[0].startswith("import torch: the process ended with exit code -9: install both together")


def test_pytorch_that_never_comes_back(capsys, monkeypatch, tmp_path):
    fake_torch(monkeypatch, tmp_path, "while True: pass")
    monkeypatch.setattr(doctor, "SECONDS", 2)
    code, text = examine(capsys)
    assert code == 1 and "no end after 2 seconds" in problems(text)[0]


def test_a_self_test_that_does_not_start(capsys, monkeypatch):
    monkeypatch.setattr(doctor.sys, "executable", shutil.which("false"))
    code, text = examine(capsys)
    assert code == 1 and problems(text) == ["start: the process ended with exit code 1: please report this text"]


def test_missing_extras_are_no_problem(capsys, monkeypatch, computes):
    without(monkeypatch, "rasterio", "onnxruntime", av="18.0.9")
    code, text = examine(capsys)
    assert code == 0
    assert "\n  geo: rasterio missing; run `pip install '.[geo]'` in a checkout of crisscross\n" in text
    assert ", onnxruntime missing, " in text and "`pip install '.[onnx]'`" in text
    assert "\n  video: av 18.0.9 older than 18.1; run `pip install '.[video]'`" in text
    assert "'.[serve]'" not in text and "dev:" not in text


def test_packages_that_are_missing_or_old(capsys, monkeypatch, computes):
    without(monkeypatch, "timm", torch="2.9.1+cpu")
    code, text = examine(capsys)
    assert code == 1 and "\n  torch 2.9.1+cpu older than 2.11\n" in text
    assert {line.split("=")[0] for line in problems(text)} == {
        "timm missing: run `pip install 'timm>",
        "torch older than 2.11: run `pip install 'torch>",
    }


def test_without_pytorch_exported_files_can_be_run(capsys, monkeypatch):
    """As requirements-deploy.txt installs it, and the same without its runtime."""
    without(monkeypatch, *FULL.values(), "openvino")
    code, text = examine(capsys)
    assert (code, problems(text)) == (0, ["none"])
    assert "\n  torch missing\n" in text and "\n  packages that can be imported: 4 of 4\n" in text
    assert "without PyTorch, `predict` and `serve` run exported files; for all else run `pip install .`" in text
    without(monkeypatch, "pyyaml", *FULL.values(), "openvino")
    assert problems(examine(capsys)[1]) == ["pyyaml missing: run `pip install 'pyyaml>=6.0'`"]
    without(monkeypatch, *FULL.values(), "openvino", "onnxruntime")
    code, text = examine(capsys)
    assert code == 1 and any(line.startswith("torch missing: run `pip install 'torch>=") for line in problems(text))


@pytest.mark.parametrize("name", ["", "HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"])
def test_the_folder_of_hugging_face_is_its_own(name, monkeypatch, tmp_path):
    for variable in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    if name:
        monkeypatch.setenv(name, str(tmp_path))
    theirs = run_python("from huggingface_hub import constants\nprint(constants.HF_HUB_CACHE)").strip()
    assert doctor._hugging_face() == Path(theirs)


def test_a_package_that_is_not_installed(capsys, monkeypatch, computes):
    without(monkeypatch, "crisscross-seg")
    monkeypatch.setattr(doctor, "requires", lambda name: version("no-such-package"))
    code, text = examine(capsys)
    assert code == 1
    assert problems(text) == [
        "crisscross-seg is not installed in this Python: run `pip install .` in a checkout of crisscross"
    ]


def test_folders_that_cannot_be_written(capsys, monkeypatch, computes, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("CRISSCROSS_CACHE", str(tmp_path / "not" / "there" / "yet"))
    code, text = examine(capsys)
    assert code == 1 and f"\n  checkpoints: {tmp_path}/not/there/yet, writable, " in text
    place = tmp_path / "file" / "crisscross-seg"
    assert f"folder for masks, images: Not a directory: {place}: make it writable, or set XDG_CACHE_HOME\n" in text
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_user_without_home(capsys, monkeypatch, computes):
    def fail(self):
        raise RuntimeError

    monkeypatch.setattr(Path, "expanduser", fail)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    code, text = examine(capsys)
    assert code == 1 and "folder for PyTorch: ~/.cache/torch: this user has no home folder" in text
    assert "\n  temporary files: " in text


def test_the_folder_of_checkpoints_is_that_of_downloads(monkeypatch, tmp_path):
    monkeypatch.delenv("CRISSCROSS_CACHE", raising=False)
    assert doctor._checkpoints() == cache_folder()
    monkeypatch.setenv("CRISSCROSS_CACHE", str(tmp_path))
    assert doctor._checkpoints() == cache_folder() == tmp_path


def test_the_home_folder_is_not_shown(capsys, monkeypatch, computes, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _, text = examine(capsys)
    assert "masks, images: ~/cache/crisscross-seg, writable" in text and str(tmp_path) not in text
    assert doctor._without_home(f"{tmp_path}2/x") == f"{tmp_path}2/x"


def test_little_room(capsys, monkeypatch, computes):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**29, total=2**26))
    code, text = examine(capsys)
    assert code == 0 and "0.5 GiB free; the weights" in text
    assert "shared memory is 0.06 GiB" in text or not Path("/dev/shm").is_dir()


@pytest.mark.parametrize(
    ("built_for", "said"), [("CUDA 13.0", "see `nvidia-smi`"), (None, "built for CPUs alone: inst")]
)
def test_a_driver_that_pytorch_does_not_use(capsys, monkeypatch, computes, built_for, said):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setitem(WORKS["devices"]["found"], "built_for", built_for)
    code, text = examine(capsys)
    assert code == 0 and "this machine has NVIDIA's driver, but PyTorch" in text and said in text


def test_a_part_that_fails_is_a_problem(capsys, monkeypatch, computes):
    monkeypatch.setattr(doctor, "processor", lambda: 1 / 0)
    code, text = examine(capsys)
    assert (code, problems(text)) == (1, ["System: ZeroDivisionError: division by zero"])
    assert "\nFolders\n" in text


def test_nothing_heavy_is_needed():
    code = f"""{BLOCK % (("torch", "numpy", "yaml", "rich", "timm", "PIL", "accelerate", "huggingface_hub"),)}
from crisscross.cli import doctor, main
doctor._steps = lambda modules, findings: {WORKS!r}
print("exit code", main(["doctor"]))
"""
    assert "exit code 0" in run_python(code)
