"""Export any module of tensors: an attention layer, the operator alone, a network with inserted attention."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from crisscross.deploy.graphs import ready
from crisscross.deploy.parity import LOGITS
from crisscross.deploy.targets import onnx_program, write_onnx
from crisscross.errors import CrissCrossError, import_extra
from crisscross.files import write_atomically

# What is added to the free axes of the examples, in each of the three comparisons.
GROWN = (0, 1, 6)


def export_module(
    module: nn.Module, examples: Sequence[Tensor], path: str | os.PathLike[str], fixed: Sequence[int] = (1,)
) -> float:
    """Write a module as ONNX, with all axes free but the channels, and compare the file with it at three sizes.

    Args:
        module: takes the examples and returns one tensor; it stays as it is.
        examples: float tensors [B, C, H, W] or [B, C, T, H, W], one for each argument of its forward.
        path: the file to write.
        fixed: axes that keep their sizes.

    Returns:
        The largest difference found, as a fraction of the standard deviation of the module's outputs.

    Raises:
        CrissCrossError: it cannot be exported, or the difference is 1e-3 or more; the file is written all the same.
    """
    runtime = import_extra("onnxruntime", "an export to ONNX", "onnx")
    own = ready(module)
    free = torch.export.Dim.DYNAMIC
    axes = tuple({axis: free for axis in range(x.dim()) if axis not in fixed} for x in examples)
    names = ["x", "y", "z"][: len(examples)] if len(examples) != 3 else ["query", "key", "value"]
    program = onnx_program(ready(module), tuple(x.float().cpu() for x in examples), axes, names=names, output="out")
    path = Path(path)
    write_atomically(path, lambda temporary: write_onnx(program, temporary))
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst, draw = 0.0, torch.Generator().manual_seed(0)
    for more in GROWN:
        shapes = [[side + (0 if axis in fixed else more) for axis, side in enumerate(x.shape)] for x in examples]
        given = [torch.randn(shape, generator=draw) for shape in shapes]
        with torch.inference_mode():
            expected = own(*given).numpy()
        found = session.run(None, {name: x.numpy() for name, x in zip(names, given, strict=True)})[0]
        worst = max(worst, float(np.abs(found - expected).max() / expected.std()))
    if not worst < LOGITS:
        raise CrissCrossError(f"{path}: differs from the module by {worst:.2g} standard deviations")
    return worst
