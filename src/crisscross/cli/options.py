"""Option values that several commands share."""


def count(text: str) -> int:
    """A whole number, 0 or more.

    Raises:
        ValueError: it is not; argparse names the option and the value.
    """
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def positive(text: str) -> int:
    """A whole number, 1 or more.

    Raises:
        ValueError: it is not; argparse names the option and the value.
    """
    value = count(text)
    if value == 0:
        raise ValueError
    return value
