"""Post-training quantization to int8: by NNCF for OpenVINO, by ONNX Runtime's own tool for ONNX."""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.errors import import_extra
from crisscross.hardware import processor

# The inputs of the network by name, for each image.
Images = Sequence[dict[str, np.ndarray]]
# Convolutions at the beginning that stay in float32.
FIRST = 12


def quantize_onnx(source: Path, path: Path, images: Images) -> None:
    """Quantize the convolutions of an ONNX file but for `sensitive` ones; the attention stays in float32, too."""
    quantization: Any = import_extra("onnxruntime.quantization", "int8", "onnx")
    shape: Any = import_extra("onnxruntime.quantization.shape_inference", "int8", "onnx")
    onnx: Any = import_extra("onnx", "int8", "onnx")
    prepared = path.with_name(f"{path.stem}.prepared.onnx")
    try:
        with _quiet():
            shape.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(prepared),
                str(path),
                _Reader(images),
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=sensitive(_convolutions(onnx.load(prepared).graph.node)),
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                # Eight bits times eight may overflow sixteen on CPUs without VNNI.
                reduce_range=not any("vnni" in feature for feature in processor()[1]),
            )
        _copy_metadata(onnx, source, path)
    finally:
        prepared.unlink(missing_ok=True)


def quantize_openvino(source: Path, images: Images) -> Any:
    """OpenVINO's model of an ONNX file, quantized but for `sensitive` convolutions."""
    openvino: Any = import_extra("openvino", "int8", "openvino")
    with _quiet():
        nncf: Any = import_extra("nncf", "int8", "openvino")
        nncf.set_log_level(logging.ERROR)
        model = openvino.Core().read_model(source)
        kinds = {"Convolution": False, "GroupConvolution": True}
        found = [(one.get_friendly_name(), one.get_type_name()) for one in model.get_ordered_ops()]
        ignored = sensitive([(name, kinds[kind]) for name, kind in found if kind in kinds])
        scope = nncf.IgnoredScope(names=ignored)
        return nncf.quantize(model, nncf.Dataset(list(images)), subset_size=len(images), ignored_scope=scope)


def sensitive(convolutions: Sequence[tuple[str, bool]]) -> list[str]:
    """The names of the convolutions that int8 hurts most: the first ones, depthwise ones and the classifier.

    They take little time: of an R-50 2% of the multiplications.

    Args:
        convolutions: name, and whether it is depthwise, of each in the order of the graph.
    """
    names = [name for name, _ in convolutions]
    depthwise = [name for name, is_depthwise in convolutions if is_depthwise]
    return list(dict.fromkeys([*names[:FIRST], *depthwise, *names[-1:]]))


def _convolutions(nodes: Iterable[Any]) -> list[tuple[str, bool]]:
    """What `sensitive` takes, of the nodes of an ONNX graph."""
    found = [node for node in nodes if node.op_type == "Conv"]
    groups = [next((one.i for one in node.attribute if one.name == "group"), 1) for node in found]
    return [(node.name, count > 1) for node, count in zip(found, groups, strict=True)]


class _Reader:
    """What ONNX Runtime's tool asks for the calibration images."""

    def __init__(self, images: Images) -> None:
        self.images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next image, None after the last."""
        return next(self.images, None)


def _copy_metadata(onnx: Any, source: Path, path: Path) -> None:
    model = onnx.load(path)
    del model.metadata_props[:]
    model.metadata_props.extend(onnx.load(source, load_external_data=False).metadata_props)
    onnx.save(model, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the tools' progress and advice."""
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)
