"""Which values of a raster become black and white: `--stretch`, and the values of a sample of windows."""

import math
from typing import Any, NamedTuple

import numpy as np

from crisscross.errors import CrissCrossError, shown

# Windows of the sample along a side at most, and their side in pixels.
MOST_WINDOWS, SIDE = 8, 256
USUAL = (2.0, 98.0)


class Limit(NamedTuple):
    """A value, or the percentage of a band's valid pixels that lie below the value that is meant."""

    number: float
    percent: bool

    def __str__(self) -> str:
        return f"{self.number:g}{'%' * self.percent}"


class Stretch(NamedTuple):
    """The values that become 0 and 255."""

    low: Limit
    high: Limit

    def __str__(self) -> str:
        return f"{self.low},{self.high}"


def parse_stretch(text: str) -> Stretch:
    """Two numbers or percentages such as `0,3000` or `2%,98%`.

    Raises:
        CrissCrossError: anything else, or the first is not below the second.
    """
    limits = [_limit(part.strip()) for part in text.split(",")]
    if len(limits) != 2 or None in limits:
        raise CrissCrossError(
            f"--stretch: {shown(text)} is not LOW,HIGH; write numbers or percentages: 0,3000 or 2%,98%"
        )
    low, high = (limit for limit in limits if limit)
    if low.percent == high.percent and low.number >= high.number:
        raise CrissCrossError(f"--stretch: {shown(text)}: the first value must be below the second")
    return Stretch(low, high)


def _limit(text: str) -> Limit | None:
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        return None
    percent = text.endswith("%")
    if not math.isfinite(number) or (percent and not 0 <= number <= 100):
        return None
    return Limit(number, percent)


def limits(dataset: Any, name: str, bands: list[int], stretch: Stretch | None) -> np.ndarray | None:
    """float64 [bands, 2]: the values of each band that become 0 and 255; None where 8-bit values stay as they are.

    Args:
        dataset: an opened rasterio dataset.
        name: of its file, for errors.
        bands: counted from 1.
        stretch: what the user asks for. Percentages are of each band's valid pixels in up to 8 x 8 windows of
            256 x 256 pixels.

    Raises:
        CrissCrossError: values that are not 8-bit without a stretch (the line names the range of the values), or one
            that finds no two values.
    """
    kinds = {dataset.dtypes[band - 1] for band in bands}
    if stretch is None and kinds == {"uint8"}:
        return None
    if not all(kind.startswith(("uint", "int", "float")) for kind in kinds):
        raise CrissCrossError(
            f"{name}: holds {', '.join(sorted(kinds))}; only whole and floating-point numbers are read"
        )
    if stretch and not (stretch.low.percent or stretch.high.percent):
        return np.array([[stretch.low.number, stretch.high.number]] * len(bands))
    values = sample(dataset, bands)
    if not all(len(of_band) for of_band in values):
        raise CrissCrossError(
            f"{name}: a sample of windows holds no valid {kinds.pop()} pixel; give numbers: --stretch LOW,HIGH"
        )
    if stretch is None:
        raise CrissCrossError(f"{name}: {_advice(np.concatenate(values), kinds)}")
    found = np.array([[_value(of_band, limit) for limit in stretch] for of_band in values])
    for band, (low, high) in zip(bands, found, strict=True):
        if not low < high:
            raise CrissCrossError(
                f"{name}: --stretch {stretch} of band {band} is {low:g} to {high:g}: no range; give numbers"
            )
    return found


def _value(values: np.ndarray, limit: Limit) -> float:
    return float(np.percentile(values, limit.number)) if limit.percent else limit.number


def _advice(values: np.ndarray, kinds: set[str]) -> str:
    low, high = np.percentile(values, USUAL)
    given = f"{' ' if low >= 0 else '='}{low:.4g},{high:.4g}"
    return (
        f"holds {', '.join(sorted(kinds))} values from {values.min():g} to {values.max():g} (as sampled), and networks "
        f"see 8 bits; say which become black and white: --stretch{given}, or --stretch 2%,98% for those of each band"
    )


def sample(dataset: Any, bands: list[int]) -> list[np.ndarray]:
    """The valid, finite values float64 [N] of each band in a grid of windows; of small rasters that is all of them."""
    found: list[list[np.ndarray]] = [[] for _ in bands]
    for top in _starts(dataset.height):
        for left in _starts(dataset.width):
            window = ((top, min(top + SIDE, dataset.height)), (left, min(left + SIDE, dataset.width)))
            for parts, values in zip(found, dataset.read(bands, window=window, masked=True), strict=True):
                kept = values.compressed().astype(np.float64)
                parts.append(kept[np.isfinite(kept)])
    return [np.concatenate(parts) for parts in found]


def _starts(length: int) -> list[int]:
    count = min(-(-length // SIDE), MOST_WINDOWS)
    return [int(start) for start in np.linspace(0, max(length - SIDE, 0), count)]
