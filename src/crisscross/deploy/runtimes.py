"""Functions for coarse logits by ONNX Runtime, OpenVINO and torch.export; each package is imported when it is used.

An exported network has the input `images`, float32 [B, 3, H, W], and the output `logits`, float32 [B, K, h, w]. One for
clips takes the frames of one clip as its batch and a second input `places`, int64 [L]: the frames to label.
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from crisscross.deploy.passport import KEY
from crisscross.errors import CrissCrossError, import_extra
from crisscross.inference.arrays import Array
from crisscross.inference.card import Card

Opened = tuple[Callable[[Card], Callable[[Array], Array]], str]
CLIP_INPUT = "places"
# How the passport of an int8 file says so.
INT8 = '"precision": "int8"'
# As ONNX Runtime and OpenVINO name the types of real numbers.
FLOATS = {"float", "float16", "f32", "f16"}


class Port(NamedTuple):
    """An input or output of a file; free sides of its shape are names or None."""

    name: str
    type: str
    shape: list[Any]


def open_onnx(path: Path) -> Opened:
    """A file for ONNX Runtime, and what it says of itself ("" for somebody else's).

    Raises:
        CrissCrossError: ONNX Runtime is missing or cannot read the file, or it does not map images to class logits.
    """
    runtime = import_extra("onnxruntime", f"{path}: an ONNX file", "onnx")
    options = runtime.SessionOptions()
    # Threads that wait actively between the calls would take the cores from the labeling.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Warnings about the graph are for its author.
    options.log_severity_level = 3
    if threads := threads_wanted():
        options.intra_op_num_threads = threads
    try:
        session = runtime.InferenceSession(str(path), options, providers=_providers(runtime))
    except Exception as error:
        raise _unreadable(path, "ONNX Runtime", error) from error
    inputs, outputs = (
        [Port(one.name, one.type.removeprefix("tensor(").rstrip(")"), one.shape) for one in ports]
        for ports in (session.get_inputs(), session.get_outputs())
    )
    _check_ports(path, inputs, outputs)
    first, half, output = inputs[0].name, inputs[0].type == "float16", outputs[0].name

    def run(images: np.ndarray, places: np.ndarray | None) -> np.ndarray:
        given = {first: images.astype(np.float16) if half else images}
        if places is not None:
            given[CLIP_INPUT] = places
        return session.run([output], given)[0]

    return _with_card(run, path, inputs, outputs), session.get_modelmeta().custom_metadata_map.get(KEY, "")


def _providers(runtime: Any) -> list[str]:
    """A GPU's provider where this build of ONNX Runtime has one, and the CPU's."""
    known = runtime.get_available_providers()
    return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in known]


def open_openvino(path: Path, precision: Literal["f32", "bf16", ""] = "") -> Opened:
    """An OpenVINO file for the CPU, which multiplies in `precision` what is not int8; otherwise as `open_onnx`.

    By default that is float32, and in an int8 file bfloat16 where the CPU has instructions for it.
    """
    openvino = import_extra("openvino", f"{path}: an OpenVINO file", "openvino")
    core = openvino.Core()
    try:
        model = core.read_model(path)
        text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else ""
        bfloat16 = INT8 in text and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        # Without this, the CPU would compute every file in bfloat16 where it has instructions for it.
        options: dict[str, str] = {"INFERENCE_PRECISION_HINT": precision or ("bf16" if bfloat16 else "f32")}
        if threads := threads_wanted():
            options["INFERENCE_NUM_THREADS"] = str(threads)
        compiled = core.compile_model(model, "CPU", options)
    except Exception as error:
        raise _unreadable(path, "OpenVINO", error) from error
    inputs, outputs = (
        [Port(one.any_name, one.element_type.to_string(), _shape(one)) for one in ports]
        for ports in (model.inputs, model.outputs)
    )
    _check_ports(path, inputs, outputs)

    def run(images: np.ndarray, places: np.ndarray | None) -> np.ndarray:
        given = [images] if places is None else [images, places]
        return next(iter(compiled(given).values()))

    return _with_card(run, path, inputs, outputs), text


def open_torch(path: Path) -> Opened:
    """A program of torch.export, run by torch on the CPU; otherwise as `open_onnx`."""
    torch = import_extra("torch", f"{path}: a torch.export file", "onnx")
    files = {f"{KEY}.json": ""}
    try:
        program = torch.export.load(path, extra_files=files)
    except Exception as error:
        raise _unreadable(path, "torch.export", error) from error
    module = program.module()

    def run(images: np.ndarray, places: np.ndarray | None) -> np.ndarray:
        given = [torch.from_numpy(x) for x in (images, places) if x is not None]
        with torch.inference_mode():
            return module(*given).numpy()

    return _with_card(run, path), files[f"{KEY}.json"]


def threads_wanted() -> int:
    """`OMP_NUM_THREADS`, which torch obeys and the runtimes do not; 0 where it is not set."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() else 0


Run = Callable[[np.ndarray, np.ndarray | None], np.ndarray]


def _with_card(
    run: Run, path: Path, inputs: Sequence[Port] = (), outputs: Sequence[Port] = ()
) -> Callable[[Card], Callable[[Array], Array]]:
    """`logits_of` for a card: the batch is one clip, of which the labeled frames are asked for."""

    def with_card(card: Card) -> Callable[[Array], Array]:
        is_clip = card.frames > 1
        if inputs and is_clip != (len(inputs) == 2):
            raise CrissCrossError(f"{path}: takes {len(inputs)} inputs, but its card says frames={card.frames}")
        classes = outputs[0].shape[1] if outputs else None
        if isinstance(classes, int) and classes != len(card.classes):
            raise CrissCrossError(f"{path}: gives logits of {classes} classes, but its card names {len(card.classes)}")
        places = np.array(card.places, np.int64) if is_clip else None

        def logits_of(x: Array) -> Array:
            try:
                return run(np.ascontiguousarray(x, np.float32), places)
            except Exception as error:
                size = f"{x.shape[-1]} x {x.shape[-2]}"
                raise CrissCrossError(f"{path}: cannot label an image of {size} pixels: {_line(error)}") from error

        return logits_of

    return with_card


def _shape(port: Any) -> list[int | None]:
    return [axis.get_length() if axis.is_static else None for axis in port.partial_shape]


def _check_ports(path: Path, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Refuse a file that does not map images of any size to class logits."""
    images = inputs[0].shape if inputs else []
    good = len(images) == 4 and images[1] in (3, None) and [one.name for one in inputs[1:]] in ([], [CLIP_INPUT])
    numbers = {one.type for one in (*inputs[:1], *outputs[:1])} <= FLOATS
    if not good or not numbers or not outputs or len(outputs[0].shape) != 4:
        raise CrissCrossError(
            f"{path}: takes {_shown(inputs)} and gives {_shown(outputs)}; needed is one input, float [B, 3, H, W], "
            "and class logits, float [B, K, h, w]"
        )
    fixed = [side for side in images[2:] if isinstance(side, int)]
    if fixed:
        raise CrissCrossError(
            f"{path}: takes images of {images[3]} x {images[2]} alone; export it with free height and width"
        )


def _shown(ports: Sequence[Port]) -> str:
    texts = (f"{one.type} {one.shape}".replace("'", "").replace("None", "?") for one in ports)
    return " and ".join(texts) or "nothing"


def _unreadable(path: Path, runtime: str, error: Exception) -> CrissCrossError:
    line = _line(error)
    is_new = runtime == "ONNX Runtime" and re.search(r"[Oo]pset \d+ is|IR version", line)
    cure = "; update ONNX Runtime (`pip install --upgrade onnxruntime`), or export for an older opset" if is_new else ""
    return CrissCrossError(f"{path}: {runtime} cannot read it: {line}{cure}")


def _line(error: Exception) -> str:
    """What a runtime says, without its own places and signatures in C++."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : (?=\w+ : )", "", " ".join(str(error).split()))
    text = re.sub(r"Load model from .*? failed:(?:\S+:\d+ .*?\) (?=[A-Z]))?", "", text)
    text = re.sub(r"Exception from \S+:\d+: (?:Check '.*?' failed at \S+:\d+: )?", "", text)
    # What is wrong comes first or last.
    text = text if len(text) <= 300 else f"{text[:150]} ... {text[-150:]}"
    return text or type(error).__name__
