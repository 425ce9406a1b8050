"""Ctrl-C as a request to stop at the next safe moment."""

import signal
from types import FrameType, TracebackType


class Interrupted(Exception):
    """Work was left unfinished because stopping was asked for."""


class Interrupt:
    """While active, the first SIGINT or SIGTERM sets a flag; a second SIGINT stops at once.

    `bool(interrupt)` says whether stopping was requested, `asked` by which signal. Outside the main thread it does
    nothing.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.former: dict[int, object] = {}

    def __bool__(self) -> bool:
        return bool(self.asked)

    def __enter__(self) -> "Interrupt":
        import threading

        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.former[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = number
