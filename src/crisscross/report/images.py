"""Images of a report, reduced in size, colored and embedded as data URIs."""

import base64
import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from crisscross.data.color import overlay
from crisscross.report.facts import ImagePanels, ImageRow

WIDEST = 768
OPACITY = 0.65


def data_uri(pixels: np.ndarray, photographic: bool) -> str:
    """uint8 RGB [H, W, 3] as a data URI: JPEG for a photograph, PNG for flat colors."""
    from PIL import Image

    stream = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if photographic:
        image.save(stream, "JPEG", quality=90, subsampling=0)
    else:
        image.convert("P", palette=Image.Palette.ADAPTIVE).save(stream, "PNG", optimize=True)
    kind = "jpeg" if photographic else "png"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def shrink(row: ImageRow, widest: int = WIDEST) -> ImageRow:
    """At most `widest` pixels wide: the image by area means, the labels by their nearest pixel."""
    truth, prediction = (shrink_labels(labels, widest) for labels in (row.truth, row.prediction))
    return replace(row, image=shrink_image(row.image, widest), truth=truth, prediction=prediction)


def shrink_labels(labels: np.ndarray, widest: int = WIDEST) -> np.ndarray:
    """Labels [H, W], at most `widest` pixels wide, each that of the nearest pixel."""
    size = _shrunk(labels.shape[:2], widest)
    y, x = (((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, labels.shape, strict=True))
    return labels[np.ix_(y, x)]


def shrink_image(image: np.ndarray, widest: int = WIDEST) -> np.ndarray:
    """An image uint8 [H, W, 3], at most `widest` pixels wide, by area means."""
    from PIL import Image

    height, width = _shrunk(image.shape[:2], widest)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def _shrunk(size: tuple[int, ...], widest: int) -> tuple[int, int]:
    height, width = size
    return (height, width) if width <= widest else (max(1, round(height * widest / width)), widest)


def wrong_pixels(truth: np.ndarray, prediction: np.ndarray, classes: int) -> tuple[np.ndarray, float | None]:
    """Where the prediction errs: bool [H, W], and which fraction of the labeled pixels (None if there are none)."""
    labeled = (truth >= 0) & (truth < classes)
    wrong = labeled & (truth != prediction)
    return wrong, float(wrong.sum() / labeled.sum()) if labeled.any() else None


def error_map(image: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Wrong pixels in red over the image, gray and dimmed: uint8 [H, W, 3]."""
    gray = (image.astype(np.float32).mean(-1, keepdims=True) * 0.45).astype(np.uint8)
    return np.where(wrong[..., None], np.array([255, 64, 52], np.uint8), np.repeat(gray, 3, -1))


def panels(row: ImageRow | ImagePanels, palette: Sequence[Sequence[int]]) -> list[tuple[str, str]]:
    """The panels of a row: (caption, data URI). Of labels there are four; errors are counted before shrinking."""
    if isinstance(row, ImagePanels):
        return [(caption, data_uri(shrink_image(image), True)) for caption, image in row.panels]
    fraction = wrong_pixels(row.truth, row.prediction, len(palette))[1] if row.wrong is None else row.wrong
    caption = "errors" if fraction is None else f"errors, {100 * fraction:.1f} %"
    small = shrink(row)
    wrong, _ = wrong_pixels(small.truth, small.prediction, len(palette))
    return [
        ("image", data_uri(small.image, True)),
        ("truth", data_uri(overlay(small.image, small.truth, palette, OPACITY), True)),
        ("prediction", data_uri(overlay(small.image, small.prediction, palette, OPACITY), True)),
        (caption, data_uri(error_map(small.image, wrong), True)),
    ]
