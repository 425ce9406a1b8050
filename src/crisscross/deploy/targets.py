"""Write a network as ONNX, as OpenVINO's files, or as a program of torch.export."""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crisscross.deploy.graphs import without_same_padding
from crisscross.deploy.passport import KEY
from crisscross.deploy.runtimes import CLIP_INPUT
from crisscross.errors import CrissCrossError, import_extra

# With 2.11, an export with free height and width specializes on their parity.
LEAST_TORCH = (2, 14)
FreeAxes = tuple[dict[int, Any], ...]


def onnx_program(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    free: FreeAxes,
    text: str = "",
    names: Sequence[str] = ("images", CLIP_INPUT),
    output: str = "logits",
) -> Any:
    """The ONNX program of a module, in memory.

    Args:
        module: from `ready`; its SAME convolutions are replaced in place.
        examples: one tensor for each argument of its forward.
        free: for each of them the axes that may have any size.
        text: stored in the metadata.
        names: of the inputs; those of a network by default.
        output: name of the output.

    Raises:
        CrissCrossError: torch is too old, a package is missing, or an operation has no counterpart in ONNX.
    """
    check_torch()
    import_extra("onnx", "an export to ONNX", "onnx")
    import_extra("onnxscript", "an export to ONNX", "onnx")
    ir: Any = import_extra("onnx_ir", "an export to ONNX", "onnx")
    marked = set(without_same_padding(module, marked=True))
    with _quiet(), _one_line("ONNX"):
        program = torch.onnx.export(
            module,
            examples,
            dynamo=True,
            dynamic_shapes=free,
            input_names=list(names[: len(examples)]),
            output_names=[output],
            verbose=False,
        )
    assert program is not None
    model: Any = program.model
    for node in model.graph:
        if node.op_type == "Conv" and (weight := node.inputs[1].name) in marked:
            # Right at every size: ONNX counts this padding as TensorFlow does.
            node.attributes["auto_pad"] = ir.AttrString("auto_pad", "SAME_UPPER")
            node.attributes.pop("pads")
            marked.discard(weight)
    if marked:
        raise CrissCrossError(f"{sorted(marked)[0]}: its SAME padding got lost in the export")
    if text:
        _name_sides(model, ir)
        model.metadata_props[KEY] = text
    return program


def _name_sides(model: Any, ir: Any) -> None:
    """Readable names of the free sides of the inputs, and none for the sides of the output that follow from them."""
    for value, names in zip(model.graph.inputs, ({0: "batch", 2: "height", 3: "width"}, {0: "labeled"}), strict=False):
        axes = list(value.shape)
        value.shape = ir.Shape(
            [names.get(n, axis) if isinstance(axis, ir.SymbolicDim) else axis for n, axis in enumerate(axes)]
        )
    for value in model.graph.outputs:
        value.shape = ir.Shape([axis if isinstance(axis, int) else None for axis in value.shape])


def write_onnx(program: Any, path: Path) -> None:
    """Save a program as one file."""
    program.save(str(path), external_data=False)


def write_openvino(onnx_file: Path, path: Path, text: str, half: bool = False) -> None:
    """Convert an ONNX file to `path` (.xml) and the .bin beside it; `half` stores the weights in float16."""
    openvino: Any = import_extra("openvino", "an export to OpenVINO", "openvino")
    # Reading the file here, unlike OpenVINO's converter, reports nothing to anybody.
    with _one_line("OpenVINO"):
        model = openvino.Core().read_model(onnx_file)
    save_openvino(model, path, text, half)


def save_openvino(model: Any, path: Path, text: str, half: bool = False) -> None:
    """Save OpenVINO's model with our text in it."""
    openvino: Any = import_extra("openvino", "an export to OpenVINO", "openvino")
    model.set_rt_info(text, [KEY])
    openvino.save_model(model, path, compress_to_fp16=half)


def torch_program(module: nn.Module, examples: tuple[Tensor, ...], free: FreeAxes) -> Any:
    """The program of torch.export; arguments and errors as in `onnx_program`."""
    check_torch()
    without_same_padding(module, marked=False)
    with _quiet(), _one_line("torch.export"), torch.no_grad():
        return torch.export.export(module, examples, dynamic_shapes=free)


def write_torch(program: Any, path: Path, text: str) -> None:
    """Save a program of torch.export with our text in it.

    Raises:
        CrissCrossError: it holds an operation that torch.export computes, but cannot save.
    """
    with _one_line("torch.export"):
        torch.export.save(program, path, extra_files={f"{KEY}.json": text})


def check_torch() -> None:
    """Refuse a torch that cannot export networks for images of any size.

    Raises:
        CrissCrossError: it is older than `LEAST_TORCH`.
    """
    found = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if found < LEAST_TORCH:
        least = ".".join(map(str, LEAST_TORCH))
        raise CrissCrossError(
            f"an export with free height and width needs torch {least} or newer, this is {torch.__version__}; "
            "running exported files does not"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress and its warnings about names."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _one_line(target: str) -> Iterator[None]:
    """Turn whatever an exporter raises into one line that names the operation."""
    try:
        yield
    except CrissCrossError:
        raise
    except Exception as error:
        lines = _causes(error)
        raise CrissCrossError(f"this network cannot be exported to {target}: {lines}") from error


def _causes(error: BaseException) -> str:
    """The innermost reason: exporters wrap it in pages of advice."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    text = " ".join(str(error).split())
    if text.startswith("No ONNX function found") and (operation := re.search(r"op='([\w.]+)'", text)):
        return f"it uses {operation[1]}, which has no counterpart in ONNX; write that part in other operations"
    return text[:300] or type(error).__name__
