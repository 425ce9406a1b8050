"""Read YAML and JSON as plain values, with limits on their size and nesting. Nothing else in the package parses them.

What comes back is made of dict, list, str, int, float, bool and None alone, nested at most `DEPTH` deep; whole numbers
have at most `DIGITS` digits, texts can be written as UTF-8 and hold no NUL. Numbers may be NaN or infinite, and
keys and types are not checked: that is left to whoever uses a value.
"""

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crisscross.errors import CrissCrossError

MIB = 2**20
# Bytes that a document may have: a description (PyYAML reads about 200 kB in a second), what a file says of itself, and
# what grows with a data set or a training.
YAML_BYTES, JSON_BYTES, ANNOTATION_BYTES = MIB, 64 * MIB, 4096 * MIB
# Lists and mappings inside one another, and digits of a whole number: 2**64 has 20.
DEPTH, DIGITS = 20, 20
# Escapes that may stand for NUL or for a lone surrogate.
_SUSPECT = re.compile(r"\\(?:[uU](?:0000)?[dD][89a-fA-F]|[uU]0000|x00|0)")


def read_yaml(path: str | os.PathLike[str], most: int = YAML_BYTES) -> Any:
    """The values of a YAML file of at most `most` bytes; None where it is empty.

    Raises:
        CrissCrossError: the file is unreadable or too large, or `parse_yaml` refuses it; it is named.
    """
    return parse_yaml(read_text(path, most), str(path))


def read_json(path: str | os.PathLike[str], most: int = JSON_BYTES) -> Any:
    """The values of a JSON file of at most `most` bytes (`ANNOTATION_BYTES` for those of whole data sets).

    Raises:
        CrissCrossError: the file is unreadable or too large, or `parse_json` refuses it; it is named.
    """
    return parse_json(read_text(path, most), str(path))


def read_text(path: str | os.PathLike[str], most: int) -> str:
    """A UTF-8 file of at most `most` bytes as text, without a byte order mark.

    Raises:
        CrissCrossError: it is missing, a folder, a pipe or a device, too large, not UTF-8, or unreadable.
    """
    try:
        # Opening a pipe would wait for a writer, reading a device might never end.
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            raise CrissCrossError(f"{path}: cannot be read: a folder, pipe or device, not an ordinary file")
        if facts.st_size > most:
            raise CrissCrossError(f"{path}: cannot be read: {facts.st_size:,} bytes, at most {most:,} are read")
        # Windows editors put a mark before the first character, which is no part of the text.
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CrissCrossError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CrissCrossError(f"{path}: cannot be read: {reason}") from None


def parse_yaml(text: str, where: str) -> Any:
    """The values of a YAML text; `where` begins the message of an error.

    Values are read as people mean them: `010`, `0x1F`, `12:30` and `2026-01-02` stay text, and so does `1e-4`, which
    PyYAML writes without quotes. There are no aliases (`*name`), tags (`!name`) or duplicate keys.

    Raises:
        CrissCrossError: it is not YAML of this kind.
    """
    # Only here: exported networks are run without PyYAML.
    import yaml

    from crisscross.config.yaml_loader import Loader

    try:
        return _sound(yaml.load(text, Loader), text)
    except (yaml.YAMLError, ValueError) as error:
        raise CrissCrossError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None


def parse_json(text: str | bytes, where: str) -> Any:
    """The values of a JSON text, in bytes that of UTF-8; `where` begins the message of an error.

    Raises:
        CrissCrossError: it is not JSON, or is beyond the limits of this module.
    """
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        return _sound(json.loads(text, parse_int=whole_number), text)
    except (ValueError, RecursionError) as error:
        reason = TOO_DEEP if isinstance(error, RecursionError) else " ".join(str(error).split())[:100]
        damaged = " (cut off or damaged?)" if isinstance(error, json.JSONDecodeError) else ""
        raise CrissCrossError(f"{where}: not valid JSON{damaged}: {reason}") from None


TOO_DEEP = f"lists and mappings nested more than {DEPTH} deep"


def whole_number(digits: str) -> int:
    if (count := len(digits.lstrip("+-"))) > DIGITS:
        raise ValueError(f"a whole number of {count} digits, at most {DIGITS} are read")
    return int(digits)


def _sound(values: Any, text: str) -> Any:
    """The values, if they are within the limits."""
    level = [values]
    for _ in range(DEPTH):
        inner = (outer.values() if type(outer) is dict else outer for outer in level if type(outer) in (dict, list))
        level = [value for group in inner for value in group if type(value) in (dict, list)]
    if level:
        raise ValueError(TOO_DEEP)
    if _SUSPECT.search(text):
        for word in _texts(values):
            word.encode()
            if "\0" in word:
                raise ValueError("a text with a NUL character")
    return values


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts([*value, *value.values()])
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)
