"""Option values that several commands share."""

from argparse import ArgumentTypeError


def count(text: str) -> int:
    """A whole number, 0 or more.

    Raises:
        ArgumentTypeError: it is not.
    """
    return _at_least(0, text)


def positive(text: str) -> int:
    """A whole number, 1 or more.

    Raises:
        ArgumentTypeError: it is not.
    """
    return _at_least(1, text)


def _at_least(low: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low:
        raise ArgumentTypeError(f"must be a whole number, {low} or more, got {text}")
    return value
