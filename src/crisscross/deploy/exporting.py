"""Export a network with its card, and check the file against the network at once."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import nn

from crisscross.deploy import quantize, targets
from crisscross.deploy.graphs import graph_of, ready
from crisscross.deploy.opening import open_exported
from crisscross.deploy.parity import EQUAL, Parity, parity
from crisscross.deploy.passport import Passport
from crisscross.deploy.samples import Samples, calibration_inputs, samples_of
from crisscross.errors import CrissCrossError, import_extra
from crisscross.files import write_atomically, write_text
from crisscross.inference import Card, Predictor
from crisscross.models import Segmenter
from crisscross.models.heads.ccnet import CrissCrossHead

# The files of each target; the first is the one to open.
FILES = {"onnx": ("model.onnx",), "openvino": ("model.xml", "model.bin"), "torch": ("model.pt2",)}
PRECISIONS = tuple(EQUAL)
# Beside them: the comparison, and the card once more for programs that cannot read it in the file.
REPORT, CARD = "parity.json", "card.json"
COUNT = 24


class Exported(NamedTuple):
    """The file that was written, and how it compares with the network."""

    path: Path
    parity: Parity


def export(
    network: nn.Module,
    folder: str | os.PathLike[str],
    to: str = "onnx",
    precision: str = "float32",
    *,
    images: str | os.PathLike[str] | None = None,
    count: int = COUNT,
    license: str = "",
    step: Callable[[str, int, int], object] = lambda what, finished, total: None,
) -> Exported:
    """Write a network as a file for another runtime, and compare the file with the network.

    Batch, height and width are free, for clips also the number of frames. The file carries classes, palette,
    preprocessing and inference mode, so that `crisscross.predictor(file)` labels images as the network does, without
    torch. `parity.json` beside it says how the two compare.

    Args:
        network: any network that labels pixels, with its weights; it stays as it is.
        folder: where the files go.
        to: `onnx`, `openvino` or `torch` (torch.export).
        precision: `float32`, `float16`, or `int8` (not for `torch`), which is calibrated with images.
        images: a data set of the network's classes, or a folder of images; drawn scenes by default.
        count: the most images to check with, and to calibrate with.
        license: of the weights, stored in the file.
        step: called with what is being done, and how many of how many images are finished.

    Raises:
        CrissCrossError: an unknown target or precision, a missing package, images that cannot be read, or an operation
            that the target lacks.
    """
    segmenter = check(network, to, precision)
    passport = passport_for(segmenter, precision, license)
    samples = samples_of(images, passport, count)
    folder = Path(folder)
    with tempfile.TemporaryDirectory() as temporary:
        step("export", 0, 0)
        _write(segmenter, Path(temporary), to, passport, samples)
        # That of a file which was here before says nothing of this one, if the check is interrupted.
        (folder / REPORT).unlink(missing_ok=True)
        for name in FILES[to]:
            made = Path(temporary, name)
            write_atomically(folder / name, lambda path, made=made: shutil.copyfile(made, path))  # type: ignore[misc]
    write_text(folder / CARD, passport.text() + "\n")
    path = folder / FILES[to][0]
    total = len(samples.check)
    step("compare", 0, total)
    found = parity(
        segmenter.predictor, open_exported(path), precision, samples, lambda done: step("compare", done, total)
    )
    write_text(folder / REPORT, json.dumps(found.facts(), indent=1) + "\n")
    return Exported(path, found)


def check(network: nn.Module, to: str, precision: str) -> Segmenter:
    """Refuse what cannot be exported before any work is done."""
    if to not in FILES:
        raise CrissCrossError(f"unknown target {to!r}; known: {', '.join(FILES)}")
    if precision not in PRECISIONS:
        raise CrissCrossError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    if to == "torch" and precision == "int8":
        raise CrissCrossError("int8 is for onnx and openvino; torch.export files are float32 or float16")
    if not isinstance(network, Segmenter):
        kind = type(network).__name__
        raise CrissCrossError(f"{kind} does not label pixels; crisscross.deploy.export_module exports a module alone")
    if getattr(network, "rewritten", False):
        raise CrissCrossError("a network made by crisscross.optimize cannot be exported; export the original")
    if network.experiment.model.frames and not isinstance(network.head, CrissCrossHead):
        raise CrissCrossError(f"the head {type(network.head).__name__} cannot be exported for clips; only `ccnet` can")
    targets.check_torch()
    if to != "torch":
        import_extra("onnxruntime" if to == "onnx" else "openvino", f"an export to {to}", to)
    return network


def passport_for(network: Segmenter, precision: str, license: str = "") -> Passport:
    """What the file of a network says of itself."""
    experiment = network.experiment
    data = {key: getattr(experiment.data, key) for key in ("name", "val_split", "test_split")}
    return Passport(Card.of(experiment), experiment.name, license, precision, data)


def _write(network: Segmenter, folder: Path, to: str, passport: Passport, samples: Samples) -> None:
    """Write the files of a target."""
    text, precision = passport.text(), passport.precision
    # OpenVINO stores weights in float16 by itself.
    half = precision == "float16" and to != "openvino"
    module, examples, free = graph_of(ready(network, half))
    path = folder / FILES[to][0]
    if to == "torch":
        targets.write_torch(targets.torch_program(module, examples, free), path, text)
        return
    plain = path if to == "onnx" and precision != "int8" else folder / "plain.onnx"
    targets.write_onnx(targets.onnx_program(module, examples, free, text), plain)
    if precision == "int8":
        inputs = list(calibration_inputs(Predictor(lambda x: x, passport.card), samples.calibrate))
        if to == "onnx":
            quantize.quantize_onnx(plain, path, inputs)
        else:
            targets.save_openvino(quantize.quantize_openvino(plain, inputs), path, text)
    elif to == "openvino":
        targets.write_openvino(plain, path, text, precision == "float16")
