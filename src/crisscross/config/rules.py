"""Rules that several sections share; each names the key, the rule and the value found.

Upper bounds are far beyond what makes sense: they catch typing errors before memory is requested.
"""

from crisscross.errors import CrissCrossError, shown
from crisscross.terminal import plain

# Iterations and counts of steps, pixels of a side, factors of a loss, times that an image is enlarged.
MOST_STEPS, MOST_PIXELS, MOST_WEIGHT, MOST_RATIO = 10**9, 32_768, 1e6, 100.0
# Channels of a layer, boxes of an image, small counts such as recurrences.
MOST_CHANNELS, MOST_BOXES, MOST_TIMES = 16_384, 1_000_000, 1000
# Characters of a text.
MOST_TEXT = 1000
TO_255 = "on the 0..255 scale; from the 0..1 scale multiply mean and std by 255"


def require(holds: bool, key: str, rule: str, value: object) -> None:
    """Raise a CrissCrossError that `key` must be `rule` unless it `holds`; `value` is what was found."""
    if not holds:
        found = value if isinstance(value, str) and len(value) <= MOST_TEXT else shown(value)
        raise CrissCrossError(f"{key} must be {rule}, got {found}")


def between(node: object, prefix: str, low: float, high: float, *names: str) -> None:
    """Require that the fields `names` of the section `prefix` are from `low` to `high`."""
    for name in names:
        value = getattr(node, name)
        require(value >= low, f"{prefix}.{name}", f"at least {low}", value)
        require(value <= high, f"{prefix}.{name}", f"at most {high}", value)


def fraction(node: object, prefix: str, *names: str) -> None:
    """Require that the fields `names` of the section `prefix` are from 0 to 1."""
    for name in names:
        value = getattr(node, name)
        require(0 <= value <= 1, f"{prefix}.{name}", "between 0 and 1", value)


def below_one(node: object, prefix: str, *names: str) -> None:
    """Require that the fields `names` of the section `prefix` are at least 0 and below 1."""
    for name in names:
        value = getattr(node, name)
        require(0 <= value < 1, f"{prefix}.{name}", "at least 0 and below 1", value)


def above_zero(node: object, prefix: str, high: float, *names: str) -> None:
    """Require that the fields `names` of the section `prefix` are above 0, and at most `high`."""
    for name in names:
        value = getattr(node, name)
        require(value > 0, f"{prefix}.{name}", "above 0", value)
        require(value <= high, f"{prefix}.{name}", f"at most {high}", value)


def sides_fit(sides: tuple[int, ...] | None, key: str) -> None:
    """Require that the sides of an image or window, if there are any, are from 1 to `MOST_PIXELS` pixels."""
    low, high = min(sides or (1,)), max(sides or (1,))
    require(low >= 1, key, "at least 1 x 1", list(sides or ()))
    require(high <= MOST_PIXELS, key, f"at most {MOST_PIXELS} x {MOST_PIXELS}", list(sides or ()))


def one_line(text: str) -> bool:
    """Whether a text is one line, of a length that can be shown, without tabs and control characters."""
    return len(text) <= MOST_TEXT and "\t" not in text and plain(text) == text


def check_scale(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Require that `preprocess.mean` and `std` are on the 0..255 scale."""
    require(all(part > 0 for part in std), "preprocess.std", "above 0", list(std))
    require(all(part >= 1 for part in std), "preprocess.std", TO_255, list(std))
    require(all(part <= MOST_TIMES for part in std), "preprocess.std", f"at most {MOST_TIMES}", list(std))
    require(all(0 <= part <= 255 for part in mean), "preprocess.mean", "between 0 and 255", list(mean))
    require(max(mean) == 0 or max(mean) > 1, "preprocess.mean", TO_255, list(mean))
