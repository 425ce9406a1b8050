"""A network exported for ONNX Runtime and OpenVINO, in each precision that the CPU has: variants to measure."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from crisscross.deploy import quantize, targets
from crisscross.deploy.exporting import check, passport_for
from crisscross.deploy.graphs import graph_of, ready
from crisscross.deploy.opening import ExportedPredictor
from crisscross.deploy.passport import Passport
from crisscross.deploy.runtimes import Opened, open_onnx, open_openvino
from crisscross.deploy.samples import Samples, calibration_inputs
from crisscross.errors import CrissCrossError, import_extra
from crisscross.inference import Predictor
from crisscross.measurement.machine import BFLOAT16, processor
from crisscross.measurement.network import ExportedVariant
from crisscross.models import Segmenter

ONNX, OPENVINO = "ONNX Runtime", "OpenVINO"


def exported_variants(
    network: Segmenter, folder: Path, samples: Samples | None = None
) -> tuple[list[ExportedVariant], list[str]]:
    """Export a network for each runtime that is installed.

    Args:
        network: on the CPU; it stays as it is.
        folder: an empty one for the files, which must stay as long as the variants are used.
        samples: those to calibrate int8 with; by default there is no int8.

    Returns:
        The variants, and a line with the reason for each that cannot be had.
    """
    passport = passport_for(network, "float32")
    inputs = list(calibration_inputs(Predictor(lambda x: x, passport.card), samples.calibrate)) if samples else []
    plain, full = folder / "plain.onnx", folder / "full.xml"
    entries: list[tuple[str, str, Callable[[], tuple[Opened, Path]]]] = [
        (ONNX, "fp32", lambda: (open_onnx(plain), plain)),
        (ONNX, "fp16", lambda: _onnx_half(network, folder / "half.onnx", passport)),
        (ONNX, "int8", lambda: _onnx_int8(plain, folder / "int8.onnx", inputs)),
        (OPENVINO, "fp32", lambda: _openvino(plain, full, passport)),
        (OPENVINO, "bf16", lambda: (open_openvino(full, "bf16"), full)),
        (OPENVINO, "fp16", lambda: _openvino(plain, folder / "half.xml", passport, half=True)),
        (
            OPENVINO,
            "int8",
            lambda: _openvino_int8(plain, folder / "int8.xml", replace(passport, precision="int8"), inputs),
        ),
    ]
    left_out = {"int8": not samples, "bf16": not processor()[1] & set(BFLOAT16)}
    found: list[ExportedVariant] = []
    installed, reasons = _installed()
    try:
        if installed:
            write_onnx(network, plain, passport)
    except CrissCrossError as error:
        return [], [*reasons, f"{' and '.join(installed)}: {error}"]
    for name, precision, make in entries:
        if name not in installed or left_out.get(precision):
            continue
        try:
            opened, file = make()
        except (CrissCrossError, RuntimeError, ValueError) as error:
            reasons.append(f"{name}, {precision}: {' '.join(str(error).split())[:300]}")
            continue
        predictor = ExportedPredictor(opened[0](passport.card), passport)
        weights = file.with_suffix(".bin") if file.suffix == ".xml" else file
        found.append(ExportedVariant(name, precision, predictor, file, weights))
    return found, reasons


def _installed() -> tuple[list[str], list[str]]:
    """The runtimes that can be imported, and how to install the others."""
    found, reasons = [], []
    for name, package, extra in ((ONNX, "onnxruntime", "onnx"), (OPENVINO, "openvino", "openvino")):
        try:
            import_extra(package, name, extra)
            found.append(name)
        except CrissCrossError as error:
            reasons.append(str(error))
    return found, reasons


def write_onnx(network: Segmenter, path: Path, passport: Passport, half: bool = False) -> None:
    """Export a network to ONNX, with its passport; `half`: in float16."""
    module, examples, free = graph_of(ready(check(network, "torch", "float32"), half))
    targets.write_onnx(targets.onnx_program(module, examples, free, passport.text()), path)


def _onnx_half(network: Segmenter, path: Path, passport: Passport) -> tuple[Opened, Path]:
    write_onnx(network, path, passport, half=True)
    return open_onnx(path), path


def _onnx_int8(plain: Path, path: Path, inputs: quantize.Images) -> tuple[Opened, Path]:
    quantize.quantize_onnx(plain, path, inputs)
    return open_onnx(path), path


def _openvino(plain: Path, path: Path, passport: Passport, half: bool = False) -> tuple[Opened, Path]:
    targets.write_openvino(plain, path, passport.text(), half)
    return open_openvino(path), path


def _openvino_int8(plain: Path, path: Path, passport: Passport, inputs: quantize.Images) -> tuple[Opened, Path]:
    targets.save_openvino(quantize.quantize_openvino(plain, inputs), path, passport.text())
    return open_openvino(path), path
