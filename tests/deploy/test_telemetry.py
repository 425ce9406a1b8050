"""The runtimes of exported files send nothing and write nothing about the machine that they run on."""

import os
import subprocess
import sys

from paths import SOURCE
from tiny_onnx import write_onnx
from waiting import HANGS

# What switches telemetry off by itself, or moves what is written elsewhere.
UNSET = ("CI", "TF_BUILD", "JENKINS_URL", "GITHUB_ACTIONS", "NNCF_CI", "NNCF_DEV", "ORT_DISABLE_TELEMETRY")
USE_ALL = """
import sys, time
from pathlib import Path
CONNECTING = "socket.getaddrinfo", "socket.connect", "socket.sendto"
sys.addaudithook(lambda event, given: print(event, given) if event in CONNECTING else None)

import numpy as np
from crisscross.deploy.quantize import quantize_openvino
from crisscross.deploy.targets import save_openvino
from crisscross.errors import import_extra

image = np.zeros((1, 3, 32, 32), np.float32)
runtime = import_extra("onnxruntime", "the test", "onnx")
session = runtime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
assert session.run(None, {"x": image})[0].shape == (1, 2, 32, 32)
save_openvino(quantize_openvino(Path("model.onnx"), [{"x": image}]), Path("model.xml"), "")
# Messages are sent by a thread.
time.sleep(0.2)
"""


def test_nothing_is_sent_and_nothing_is_stored(tmp_path):
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    write_onnx(work / "model.onnx")
    environment = {name: text for name, text in os.environ.items() if name not in UNSET and name[:4] != "XDG_"}
    environment |= {"HOME": str(home), "LOCALAPPDATA": str(home), "PYTHONPATH": str(SOURCE)}
    # Matplotlib, which NNCF imports, keeps its list of fonts.
    environment["MPLCONFIGDIR"] = str(work)
    words = [sys.executable, "-c", USE_ALL]
    done = subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert [str(path) for path in home.rglob("*") if path.is_file()] == []
    assert (work / "model.xml").is_file()
