"""Progress of long work: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ClassVar

from crisscross.terminal import console, is_live, plain, say

# Seconds between plain lines where there is no terminal.
PLAIN_EVERY = 10.0
_shown = ContextVar("shown", default=True)


@contextmanager
def showing(wanted: bool) -> Iterator[None]:
    """Inside, `Progress` prints nothing unless `wanted`."""
    token = _shown.set(_shown.get() and wanted)
    try:
        yield
    finally:
        _shown.reset(token)


def is_shown() -> bool:
    """Whether progress is printed here."""
    return _shown.get()


class Progress:
    """Units done, time elapsed and time remaining of a piece of work.

    Args:
        title: one or two words.
        total: number of units, 0 if it is not known.
        start: units that were done before (in a resumed run); they do not count for the remaining time.
        show: whether anything is printed; false in all processes but the first.

    One display is live at a time: an inner one suspends the outer.
    """

    live: ClassVar[list["Progress"]] = []

    def __init__(self, title: str, total: int, start: int = 0, show: bool = True) -> None:
        self.show = show and _shown.get()
        self.title, self.total, self.start, self.done = title, total, start, start
        self.facts: dict[str, str] = {}
        self.began = self.shown = time.monotonic()
        self.bar: Any = None
        # The newest plain line, until it is printed.
        self.waiting = ""

    def __enter__(self) -> "Progress":
        if self.show and is_live(sys.stderr):
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as Bar

            # A narrow bar leaves room for all facts in 80 columns.
            columns = [
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=10),
                MofNCompleteColumn(),
                TextColumn("{task.fields[facts]}", markup=False),
            ]
            self.bar = Bar(*columns, console=console(error=True), transient=False)
            self.task = self.bar.add_task(plain(self.title), total=self.total or None, completed=self.start, facts="")
            if Progress.live:
                Progress.live[-1].bar.stop()
            Progress.live.append(self)
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.waiting:
            # After an error or Ctrl-C too: the last line says how far it got.
            self._say_waiting()
        if self.bar is not None:
            self.bar.stop()
            Progress.live.remove(self)
            if Progress.live:
                Progress.live[-1].bar.start()

    def update(self, done: int, **facts: str) -> None:
        """Set the number of finished units, and facts to show beside it; facts stay until they change."""
        self.done = done
        self.facts |= facts
        text = "  ".join([*(f"{name} {value}" for name, value in self.facts.items()), self._times()])
        if self.bar is not None:
            self.bar.update(self.task, completed=done, total=self.total or None, facts=plain(text))
            return
        of = f"/{self.total}" if self.total else ""
        self.waiting = f"{self.title} {done}{of}  {text}"
        if time.monotonic() - self.shown >= PLAIN_EVERY or done == self.total:
            self._say_waiting()

    def _say_waiting(self) -> None:
        self.shown = time.monotonic()
        self.say(self.waiting)
        self.waiting = ""

    def say(self, line: str, error: bool = True) -> None:
        """Print a line without disturbing the bar; a result, which is no `error`, goes to standard output."""
        if self.bar is not None and (error or is_live(sys.stdout)):
            self.bar.console.print(plain(line), highlight=False, markup=False)
        elif self.show:
            say(line, error=error)

    def _times(self) -> str:
        elapsed = time.monotonic() - self.began
        fresh = self.done - self.start
        if not self.total:
            return f"elapsed {clock(elapsed)}"
        remaining = clock(elapsed / fresh * max(self.total - self.done, 0)) if fresh > 0 else "?"
        return f"elapsed {clock(elapsed)}  remaining {remaining}"


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
