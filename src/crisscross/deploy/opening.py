"""Exported files as predictors. NumPy and the runtime are imported, and torch for `.pt2` files alone."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from crisscross.config.documents import JSON_BYTES, read_text
from crisscross.deploy import runtimes
from crisscross.deploy.passport import Passport, passport_of
from crisscross.errors import CrissCrossError
from crisscross.inference import Card, Predictor
from crisscross.inference.arrays import Array


class Runtime(NamedTuple):
    """`open` reads a file: the function for coarse logits, given the card, and the text that the file carries."""

    title: str
    open: Callable[[Path], tuple[Callable[[Card], Callable[[Array], Array]], str]]


# By the suffix of an exported file.
RUNTIMES = {
    ".onnx": Runtime("ONNX", runtimes.open_onnx),
    ".xml": Runtime("OpenVINO", runtimes.open_openvino),
    ".pt2": Runtime("torch.export", runtimes.open_torch),
}


def exported_kind(source: object) -> str:
    """`ONNX`, `OpenVINO` or `torch.export` for the path of an exported file, known by its suffix; "" for others."""
    if not isinstance(source, str | os.PathLike):
        return ""
    found = RUNTIMES.get(Path(source).suffix.lower())
    return found.title if found else ""


def exported_files(folder: Path) -> list[Path]:
    """The exported files that lie in a folder; an `.xml` is OpenVINO's where its `.bin` lies beside it."""
    found = (path for path in folder.iterdir() if exported_kind(path))
    return sorted(path for path in found if path.suffix.lower() != ".xml" or path.with_suffix(".bin").is_file())


def open_exported(path: str | os.PathLike[str], card: str | os.PathLike[str] | None = None) -> "ExportedPredictor":
    """The predictor of an exported file.

    Args:
        path: `.onnx`, `.xml` (OpenVINO, with its `.bin` beside it) or `.pt2`.
        card: a JSON file that takes the place of the card in `path`: for files that crisscross did not write. It needs
            `classes` alone; see `crisscross.inference.Card` for the other keys.

    Raises:
        CrissCrossError: no such file, one that its runtime cannot read, one without a card, or one that does not map
            images to class logits; the runtime is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise CrissCrossError(f"{path}: no such file")
    logits_for, text = RUNTIMES[path.suffix.lower()].open(path)
    if card is not None:
        passport = passport_of(read_text(card, JSON_BYTES), str(card))
    elif text:
        passport = passport_of(text, str(path))
    else:
        raise CrissCrossError(
            f"{path}: was not exported by crisscross: it does not say its classes and preprocessing; write them as "
            'JSON, {"classes": ["road", ...], "preprocess": {"mean": [...], "std": [...]}}, and add --card FILE '
            "(in Python card=FILE)"
        )
    return ExportedPredictor(logits_for(passport.card), passport)


class ExportedPredictor(Predictor):
    """A `Predictor` of an exported file; `passport` is what the file says of itself."""

    def __init__(self, logits_of: Callable[[Array], Array], passport: Passport) -> None:
        super().__init__(logits_of, passport.card)
        self.passport = passport
