"""What a predictor says about an image, and the forms in which people use it."""

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.data.color import Color, colorise, index_image, overlay
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.files import claim, output_path, write_atomically, write_text
from crisscross.inference import formats
from crisscross.inference.card import Card
from crisscross.inference.legend import percent, with_legend
from crisscross.inference.sources import Image, rgb

CLASSES_FILE = "classes.json"


@dataclass(frozen=True)
class Prediction:
    """The label of every pixel of one image, at the image's own size.

    Attributes:
        labels: uint8 [H, W].
        probabilities: float32 [K, H, W] when asked for.
        card: of the network: names and colors of the classes.
        source: the file that was labeled, None where the image was given otherwise.
    """

    labels: np.ndarray
    probabilities: np.ndarray | None = None
    card: Card = field(default_factory=lambda: Card((), ()), repr=False)
    source: Path | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that occur, the largest first."""
        return tuple(self.card.classes[number] for number in self._present)

    def fractions(self) -> dict[str, float]:
        """The fraction (0..1) of all pixels that each class of the network has, in the order of its classes."""
        return dict(zip(self.card.classes, self._fractions.tolist(), strict=True))

    def color(self) -> Any:
        """A PIL image RGB of the labels in their colors."""
        from PIL import Image as Images

        return Images.fromarray(colorise(self.labels, self.card.palette))

    def overlay(self, image: Image | None = None, opacity: float = 0.5, legend: bool = False) -> Any:
        """A PIL image RGB with the colors of the labels over the image.

        Args:
            image: the image that was labeled, as in `Predictor.predict`; by default it is read again from `source`.
            opacity: of the colors, 0 (the image alone) to 1 (the colors alone).
            legend: write names, colors and fractions of the classes that occur below the image, which makes it higher.

        Raises:
            CrissCrossError: no image, one of another size, or an opacity outside 0..1.
        """
        from PIL import Image as Images

        if image is None and self.source is None:
            raise CrissCrossError("overlay needs the image, since no file was labeled: prediction.overlay(image)")
        if not 0 <= opacity <= 1:
            raise CrissCrossError(f"opacity must lie in 0..1, got {opacity}")
        pixels = rgb(self.source if image is None else image)
        if pixels.shape[:2] != self.labels.shape:
            shown = [f"{width} x {height}" for height, width in (pixels.shape[:2], self.labels.shape)]
            raise CrissCrossError(f"the image is {shown[0]}, the labels are {shown[1]}: an overlay needs one size")
        drawn = overlay(pixels, self.labels, self.card.palette, opacity)
        return with_legend(Images.fromarray(drawn), self._legend()) if legend else Images.fromarray(drawn)

    def polygons(self) -> list[dict[str, Any]]:
        """The outline of every connected region, `{"class", "name", "polygon", "holes"}`; see `formats.polygons`."""
        return formats.polygons(self.labels, self.card.classes)

    def save(
        self,
        folder: str | os.PathLike[str],
        image: Image | None = None,
        name: str | None = None,
        legend: bool = False,
        force: bool = False,
    ) -> list[Path]:
        """Write what `crisscross predict` writes: `labels/NAME.png`, `color/NAME.png`, `overlay/NAME.png` and
        `classes.json`, all in `folder`.

        Args:
            folder: where to write; it is made if it is missing.
            image: for the overlay, by default read from `source`; without any there is no overlay, and a
                `CrissCrossWarning` says so.
            name: NAME, by default that of `source`, else `image`.
            legend: as in `overlay`.
            force: replace files that crisscross did not write.

        Returns:
            The files that were written.

        Raises:
            CrissCrossError: a file that crisscross did not write would be replaced, or the folder cannot be written.
        """
        name = name or (self.source.stem if self.source else "image")
        images = {"labels": index_image(self.labels, self.card.palette), "color": self.color()}
        if image is not None or self.source is not None:
            images["overlay"] = self.overlay(image, legend=legend)
        else:
            line = "no overlay is written, since no file was labeled; give the image: prediction.save(folder, image)"
            warnings.warn(line, CrissCrossWarning, 2)
        paths = [output_path(folder, f"{kind}/{name}.png") for kind in images]
        listing = output_path(folder, CLASSES_FILE)
        claim([*paths, listing], [self.source] if self.source else [], force)
        for path, drawn in zip(paths, images.values(), strict=True):
            write_png(path, drawn)
        write_classes(listing, self.card.classes, self.card.palette)
        return [*paths, listing]

    def __str__(self) -> str:
        """The three largest classes: `road 41%, sky 22%, building 20%, 8 more`."""
        shown = [f"{self.card.classes[number]} {percent(self._fractions[number])}" for number in self._present[:3]]
        more = len(self._present) - len(shown)
        return ", ".join([*shown, *[f"{more} more"] * bool(more)])

    @cached_property
    def _fractions(self) -> np.ndarray:
        return formats.class_fractions(self.labels, len(self.card.classes))

    @property
    def _present(self) -> list[int]:
        order = np.argsort(-self._fractions, kind="stable")
        return [int(number) for number in order if self._fractions[number]]

    def _legend(self) -> list[tuple[str, Color]]:
        card, fractions = self.card, self._fractions
        return [(f"{card.classes[n]} {percent(fractions[n])}", card.palette[n]) for n in self._present]


def write_png(path: Path, image: Any) -> None:
    """Write a PIL image, atomically."""
    write_atomically(path, partial(image.save, format="PNG", compress_level=3))


def write_classes(path: Path, classes: Sequence[str], palette: Sequence[Color] = ()) -> None:
    """Write id, name and, where there are any, RGB color (0..255) of each class as JSON; the id is the label."""
    rows: list[dict[str, Any]] = [{"id": number, "name": name} for number, name in enumerate(classes)]
    for row, color in zip(rows, palette, strict=False):
        row["color"] = [int(value) for value in color]
    lines = ",\n".join(f" {json.dumps(row, ensure_ascii=False)}" for row in rows)
    write_text(path, f"[\n{lines}\n]\n")
