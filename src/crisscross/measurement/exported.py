"""A network exported for ONNX Runtime and OpenVINO, in each precision that the CPU has: variants to measure."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from crisscross.deploy import quantize, targets
from crisscross.deploy.exporting import check, passport_for
from crisscross.deploy.graphs import graph_of, ready
from crisscross.deploy.opening import ExportedPredictor
from crisscross.deploy.passport import Passport
from crisscross.deploy.runtimes import Opened, open_onnx, open_openvino
from crisscross.deploy.samples import Samples, calibration_inputs
from crisscross.errors import CrissCrossError, import_extra
from crisscross.hardware import BFLOAT16, processor
from crisscross.inference import Predictor
from crisscross.measurement.network import ExportedVariant
from crisscross.models import Segmenter


class Runtime(NamedTuple):
    """What runs an exported file, its package, the extra that installs it, and what opens a file."""

    title: str
    package: str
    extra: str
    open: Callable[[Path], Opened]


RUNTIMES = {
    "onnx": Runtime("ONNX Runtime", "onnxruntime", "onnx", open_onnx),
    "openvino": Runtime("OpenVINO", "openvino", "openvino", open_openvino),
}


def exported_variants(
    network: Segmenter, folder: Path, samples: Samples | None = None
) -> tuple[list[ExportedVariant], list[str]]:
    """Export a network for each runtime that is installed.

    Args:
        network: on the CPU; it stays as it is.
        folder: an empty one for the files, which must stay as long as the variants are used.
        samples: those to calibrate int8 with; by default there is no int8.

    Returns:
        The variants, and a line with the reason for each that is not available.
    """
    passport = passport_for(network, "float32")
    inputs = list(calibration_inputs(Predictor(lambda x: x, passport.card), samples.calibrate)) if samples else []
    plain, full = folder / "plain.onnx", folder / "full.xml"
    entries: list[tuple[str, str, Callable[[], tuple[Opened, Path]]]] = [
        ("onnx", "fp32", lambda: (open_onnx(plain), plain)),
        ("onnx", "fp16", lambda: _onnx_half(network, folder / "half.onnx", passport)),
        ("onnx", "int8", lambda: _onnx_int8(plain, folder / "int8.onnx", inputs)),
        ("openvino", "fp32", lambda: _openvino(plain, full, passport)),
        ("openvino", "bf16", lambda: (open_openvino(full, "bf16"), full)),
        ("openvino", "fp16", lambda: _openvino(plain, folder / "half.xml", passport, half=True)),
        (
            "openvino",
            "int8",
            lambda: _openvino_int8(plain, folder / "int8.xml", replace(passport, precision="int8"), inputs),
        ),
    ]
    # Where the system does not say, too: OpenVINO would compute in float32 and not tell.
    left_out = {"int8": not samples, "bf16": not processor()[1] & set(BFLOAT16)}
    found: list[ExportedVariant] = []
    installed, reasons = installed_runtimes()
    try:
        if installed:
            write_onnx(network, plain, passport)
    except CrissCrossError as error:
        return [], [*reasons, f"{' and '.join(RUNTIMES[name].title for name in installed)}: {error}"]
    for name, precision, make in entries:
        if name not in installed or left_out.get(precision):
            continue
        try:
            opened, file = make()
        except (CrissCrossError, RuntimeError, ValueError) as error:
            reasons.append(f"{RUNTIMES[name].title}, {precision}: {' '.join(str(error).split())[:300]}")
            continue
        predictor = ExportedPredictor(opened[0](passport.card), passport)
        weights = file.with_suffix(".bin") if file.suffix == ".xml" else file
        found.append(ExportedVariant(RUNTIMES[name].title, precision, predictor, file, weights))
    return found, reasons


def installed_runtimes() -> tuple[list[str], list[str]]:
    """The names of the runtimes that can be imported, and how to install the others."""
    found, reasons = [], []
    for name, runtime in RUNTIMES.items():
        try:
            import_extra(runtime.package, runtime.title, runtime.extra)
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
