"""What the fuzz targets share: how often they try, what they change, and what a reader may do with the outcome."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from crisscross.errors import CrissCrossError

# Characters of a refusal beside the place that it names.
SHORT = 600


def tries(count: int) -> settings:
    """So many inputs, about a minute on one core: the same ones each time, others with --hypothesis-seed=N."""
    same = not any(word.startswith("--hypothesis-seed") for word in sys.argv)
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=same,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def read_or_refused(read: Callable[..., Any], *arguments: Any, where: str | Path = "") -> Any:
    """What a reader gives, or None where it refuses in one short line that names the place `where`.

    Any other exception is a finding: it passes through.

    Raises:
        AssertionError: a refusal of several lines, a long one, or one that names another place.
    """
    try:
        return read(*arguments)
    except CrissCrossError as error:
        line, place = str(error), str(where)
        if "\n" in line or len(line) > len(place) + SHORT or place not in line:
            raise AssertionError(f"not one short line about {place!r}: {line}") from error
        return None


edit = st.tuples(
    st.integers(0, 10**6) | st.integers(0, 200),
    st.sampled_from(["set", "cut", "copy", "add"]),
    st.binary(min_size=1, max_size=8) | st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\x40\0"]),
)
edits = st.lists(edit, min_size=1, max_size=6)


def edited(content: bytes, changes: list[tuple[int, str, bytes]]) -> bytes:
    """Bytes with some of them set, cut out, repeated or added."""
    for place, kind, value in changes:
        place %= len(content) + 1
        after = {"set": place + len(value), "cut": place + 40 * value[0], "add": place}.get(kind, place)
        value = {"cut": b"", "copy": content[place : place + 4 * value[0]]}.get(kind, value)
        content = content[:place] + value + content[after:]
    return content
