"""Suggestions for mistyped names, and imports by `package.module:attribute`."""

import contextlib
import difflib
import importlib
import os
import sys
from collections.abc import Iterable
from typing import Any

from crisscross.errors import CrissCrossError


def hint(word: str, known: Iterable[str], label: str = "known") -> str:
    """The end of an error about an unknown word: near misses, or all known words."""
    known = list(known)
    near = difflib.get_close_matches(word, known, 2, 0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"{label}: {', '.join(known)}"


def import_attribute(name: str, key: str) -> Any:
    """The object that `package.module:attribute` names; `key` is where the name was given.

    Importing runs code: call it with names that the user wrote or trusts. The working folder is searched last, so that
    nothing there shadows an installed package.

    Raises:
        CrissCrossError: there is no such module or attribute, or it cannot be called.
    """
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in module.split(".")):
        raise CrissCrossError(f"{key} {name}: cannot be imported: {module!r} is no name of a module")
    if not module.startswith("crisscross."):
        with contextlib.suppress(OSError):
            if (here := os.getcwd()) not in sys.path:
                sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise CrissCrossError(f"{key} {name}: cannot be imported: {error}") from error
    if not callable(found):
        raise CrissCrossError(f"{key} {name}: must be something that can be called, got {type(found).__name__}")
    return found
