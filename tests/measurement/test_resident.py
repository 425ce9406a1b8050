"""Memory of exported files, watched in a process of its own."""

import mmap
import sys

import numpy as np
import onnx
import pytest
from fresh_python import BLOCK, run_python
from onnx import TensorProto, helper

from crisscross.deploy.passport import Passport
from crisscross.inference import Card
from crisscross.measurement.resident import peak_of_file, peak_resident

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the system does not say what a process holds")
MIB = 2**20


def test_what_is_held_for_a_moment_counts():
    def work():
        # Fresh pages of the system, whatever this process has freed before.
        parts = [mmap.mmap(-1, 24 * MIB) for _ in range(2)]
        for part in parts:
            np.frombuffer(part, np.uint8)[:] = 1

    assert 40 * MIB < peak_resident(work) < 60 * MIB


def wide(path, channels):
    """A network whose 1 x 1 convolution has that many channels, before two classes."""
    rng = np.random.default_rng(0)
    first, second = (rng.random(shape, np.float32) for shape in ((channels, 3, 1, 1), (2, channels, 1, 1)))
    nodes = [helper.make_node("Conv", ["x", "a"], ["y"]), helper.make_node("Conv", ["y", "b"], ["z"])]
    graph = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 3, "h", "w"])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["b", 2, "h", "w"])],
        [onnx.numpy_helper.from_array(first, "a"), onnx.numpy_helper.from_array(second, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    card = Card(("dark", "light"), ((0, 0, 0), (255, 0, 0)))
    helper.set_model_props(model, {"crisscross": Passport(card).text()})
    onnx.save(model, path)
    return path


def test_a_file_is_opened_and_labels_an_image_in_a_process_without_torch(tmp_path):
    path = wide(tmp_path / "wide.onnx", 64)
    # The map of 64 channels in float32, and not much more.
    needed = 64 * 256 * 320 * 4
    found = peak_of_file(path, "fp32", 256, 320)
    assert needed < found < 3 * needed
    code = f"from crisscross.measurement.resident import main; main([{str(path)!r}, 'fp32', '64', '64'])"
    assert int(run_python(BLOCK % (("torch",),) + code)) > 0
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    assert peak_of_file(tmp_path / "broken.onnx", "fp32", 64, 64) is None
