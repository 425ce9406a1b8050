"""The one error, and the one warning, that people are meant to read."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Characters of a value that an error shows.
SHOWN = 100


class CrissCrossError(Exception):
    """Bad input, or a request that cannot be met.

    The message is one line that names the file or key, the value found and the fix. The command line prints it
    without a traceback and exits with 2.
    """


class CrissCrossWarning(UserWarning):
    """Something that does not stop the work, but that the user should know. The command line prints it as one line."""


def shown(value: object) -> str:
    """A value as an error shows it: its `repr`, cut where it is long."""
    return _cut(repr(value))


def shown_name(name: object) -> str:
    """A key or name as an error shows it: on one line, cut where it is long."""
    return _cut(" ".join(str(name).split()))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def import_extra(module: str, purpose: str, extra: str) -> Any:
    """Import a module of an optional package; its telemetry stays off.

    Args:
        module: its full name; the error names the package.
        purpose: what needs it, the subject of the error's sentence.
        extra: the extra of `pyproject.toml` that installs it.

    Raises:
        CrissCrossError: it is not installed, or cannot be imported.
    """
    try:
        with _without_telemetry():
            return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise CrissCrossError(
            f"{purpose} needs {package}: run `pip install '.[{extra}]'` in a checkout of crisscross ({error})"
        ) from None


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Where they are imported, ONNX Runtime, OpenVINO and NNCF store a number of this machine and begin to report."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    reporter = "openvino_telemetry"
    if reporter in sys.modules:
        yield
        return
    # OpenVINO and NNCF do without this package where it is not installed.
    sys.modules[reporter] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(reporter, None)
