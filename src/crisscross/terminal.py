"""The terminal: everything that people read goes through here, and what they hear of a stop in the first second.

Names of files and classes come from anywhere. Characters that a terminal obeys instead of showing them (escape
sequences, line breaks inside a name, marks that turn the direction of writing) are shown as Python writes them.
"""

import contextlib
import os
import re
import signal
import sys
from types import FrameType
from typing import Any, TextIO

# C0 without the tab, DEL, C1, marks of direction, separators of lines, halves of characters.
_OBEYED = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_IMPORTING = "<frozen importlib._bootstrap>"


def plain(text: object) -> str:
    """A text as one line that a terminal shows and does not obey: an escape character becomes the four of `\\x1b`."""
    return _OBEYED.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), str(text))


def say(*lines: object, error: bool = False) -> None:
    """Write lines to standard output, or to standard error; each argument is one line, none at all an empty one.

    Raises:
        OSError: standard output cannot be written. Where standard error cannot, nobody reads, and work goes on.
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
    """Whether somebody sits in front of a stream."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def console(error: bool = False) -> Any:
    """rich's console for tables and bars; what is written on it has to be `plain`."""
    from rich.console import Console

    return Console(stderr=error)


def prepare() -> None:
    """Give the process the streams that it lacks, and let those that it has show every character somehow.

    A closed stream's number would be given to the next file that is opened, and messages written into that.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken, which is this one.
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open as long as the process
        elif hasattr(stream, "reconfigure"):
            with contextlib.suppress(ValueError, OSError):
                stream.reconfigure(errors="backslashreplace")


def stop_at_once_while_importing() -> None:
    """Let Ctrl-C end this process with 130 and one line where it meets an import, and be Python's own elsewhere.

    Libraries turn an interrupt amid their import into errors of other kinds, or print and forget it.
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
