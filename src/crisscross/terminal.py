"""Output to the terminal, and Ctrl-C while packages are being imported.

Names of files and classes come from anywhere. Control characters in them (escape sequences, line breaks, marks that
reverse the direction of writing) are shown as Python writes them.
"""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, TextIO

# C0 without the tab, DEL, C1, marks of direction, separators of lines, surrogates.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_IMPORTING = "<frozen importlib._bootstrap>"


def plain(text: object) -> str:
    """A text on one line, with control characters escaped: the escape character becomes the four of `\\x1b`."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), str(text))


def decimal(value: float | None, digits: int) -> str:
    """A number with so many digits after the point; a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, with the cells of a column below each other: the first on the left, others on the right."""
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *values in rows:
        cells = [value.rjust(width) for value, width in zip(values, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *cells]))
    return lines


def say(*lines: object, error: bool = False) -> None:
    """Write lines to standard output, or to standard error: one per argument; without arguments, an empty one.

    Raises:
        OSError: standard output cannot be written. A failing standard error is ignored.
    """
    text = "".join(f"{plain(line)}\n" for line in lines or ("",))
    stream = sys.stderr if error else sys.stdout
    with contextlib.suppress(OSError, ValueError) if error else contextlib.nullcontext():
        if stream is not None:
            _write(stream, text)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:
        stream.write(text.encode(stream.encoding or "ascii", "backslashreplace").decode(stream.encoding or "ascii"))
    stream.flush()


def is_live(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def console(error: bool = False) -> Any:
    """rich's console for tables and bars. Pass it `plain` texts only."""
    from rich.console import Console

    return Console(stderr=error)


def prepare() -> None:
    """Open missing standard streams, and let the others escape what they cannot encode.

    Otherwise the next file that is opened would get the number of a closed stream, and with it all messages.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The system takes the lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open as long as the process
        elif hasattr(stream, "reconfigure"):
            with contextlib.suppress(ValueError, OSError):
                stream.reconfigure(errors="backslashreplace")


def stop_at_once_while_importing() -> None:
    """Let Ctrl-C during an import end this process with 130 and one line; elsewhere it stays Python's own.

    Some libraries turn an interrupt during their import into other errors, or print and ignore it.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        while frame is not None and os.getpid() == process:
            if frame.f_code.co_filename == _IMPORTING:
                with contextlib.suppress(OSError):
                    os.write(2, b"crisscross: stopped\n")
                os._exit(130)
            frame = frame.f_back
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
