"""An ONNX file with one convolution, which takes images of any size and carries no card."""

from os import PathLike

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_onnx(path: str | PathLike[str]) -> None:
    """Two classes: 1 where the normalized red channel is above 0, else 0."""
    weight = np.zeros((2, 3, 1, 1), np.float32)
    weight[1, 0] = 1
    shapes = {"x": ["b", 3, "h", "w"], "y": ["b", 2, "h", "w"]}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "tiny", [x], [y], [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
