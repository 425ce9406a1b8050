"""The one error, and the one warning, that people are meant to read."""

# Characters of a value that an error shows.
SHOWN = 100


class CrissCrossError(Exception):
    """Bad input or a request that cannot be met.

    The message is one line that names the file or key, the value found and the fix. The command line prints it
    without a traceback and exits with 2.
    """


def shown(value: object) -> str:
    """A value as an error shows it: what Python writes, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def shown_name(name: object) -> str:
    """A key or name as an error shows it: in one line, cut where it is long."""
    text = " ".join(str(name).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


class CrissCrossWarning(UserWarning):
    """Something that goes on, and that people should know. The command line prints it as one line."""
