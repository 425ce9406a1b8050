"""Which classes training has seen: one that never occurs cannot be learnt, and nothing else would say so."""

from collections.abc import Iterator

from crisscross.data.samples.loader import Batch


class SeenClasses:
    """Watches batches go by until every class has occurred.

    Args:
        names: of the classes; label k is `names[k]`.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.missing = set(range(len(names)))
        self.batches = 0

    def watch(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches."""
        for batch in batches:
            self.batches += 1
            self.missing -= batch.found
            yield batch

    def line(self) -> str:
        """What is to be said of classes that did not occur, or ""."""
        if not self.missing or not self.batches:
            return ""
        if len(self.missing) == len(self.names):
            return f"no label in any of the {self.batches} batches: everything was ignored, nothing was learnt"
        names = ", ".join(self.names[index] for index in sorted(self.missing))
        return f"never seen in {self.batches} batches, so not learnt: {names}"
