"""Which classes occur in training: a class that never does cannot be learned."""


class SeenClasses:
    """Collects the labels of batches.

    Args:
        names: of the classes; label k is `names[k]`.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.missing = set(range(len(names)))
        self.batches = 0

    def see(self, found: frozenset[int]) -> None:
        """Add the labels that occur in a batch."""
        self.batches += 1
        self.missing -= found

    def line(self) -> str:
        """One line about classes that did not occur, or ""."""
        if not self.missing or not self.batches:
            return ""
        if len(self.missing) == len(self.names):
            return f"no label in any of the {self.batches} batches: everything was ignored, nothing was learned"
        names = ", ".join(self.names[index] for index in sorted(self.missing))
        return f"never seen in {self.batches} batches, so not learned: {names}"
