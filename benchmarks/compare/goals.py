"""What the layer has to reach beside MMCV's module and a non-local block, and whether a run reached it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.compare.contestants import FAST, FLOAT32, LEAN, MMCV, NON_LOCAL
from benchmarks.compare.rows import Row, Size

# Rows by size, as `attention.measure` gives them.
Results = Mapping[Size, Sequence[Row]]
# Where the memory goals are stated: float32, 512 channels.
STATED_AT = "97x97"
STATED_AT_GPU = "128x256"
MIB = 2**20


@dataclass(frozen=True)
class Check:
    """One goal and what was found.

    Attributes:
        goal: in words.
        needed: the bound.
        mode: the contestant that is judged.
        found: its value; None where it was not measured.
        other: the other memory mode's value, for the record.
        at_most: the bound is an upper one.
        unit: of the values.
    """

    goal: str
    needed: float
    mode: str
    found: float | None
    other: float | None
    at_most: bool = False
    unit: str = "x"

    @property
    def reached(self) -> bool | None:
        """None where it was not measured."""
        if self.found is None:
            return None
        return self.found <= self.needed if self.at_most else self.found >= self.needed


def ratio(rows: Sequence[Row], name: str, field: str, against: str = MMCV) -> float | None:
    """How many times less a contestant takes than another: their value over its own; None where one is missing."""
    values = {row.name: getattr(row, field) for row in rows}
    mine, theirs = values.get(name), values.get(against)
    return theirs / mine if mine and theirs else None


def check(results: Results, gpu: bool = False) -> list[Check]:
    """All goals in order. Time is judged in the fast mode, training memory in the lean one.

    A GPU has goals of its own, at its own size: time under autocast to half precision. So has half precision on a CPU,
    beside float32.
    """
    if gpu:
        stated = {size: rows for size, rows in results.items() if str(size) == STATED_AT_GPU}
        return [
            _over_sizes(f"{goal} vs MMCV, {STATED_AT_GPU}", 2.5, stated, field, min)
            for goal, field in (("forward", "forward"), ("forward + backward", "training"))
        ]
    if any(row.name == FLOAT32 for rows in results.values() for row in rows):
        return [
            _over_sizes(f"{goal} vs float32, worst size", 1.8, results, field, min, FLOAT32)
            for goal, field in (("forward", "forward"), ("forward + backward", "training"))
        ]
    found = [
        _share("forward, of peak, median of sizes", 0.85, results, "share"),
        _share("forward + backward, of peak, median", 0.80, results, "training_share"),
        _over_sizes("forward vs MMCV, median of sizes", 2.3, results, "forward", median),
        _over_sizes("forward vs MMCV, worst size", 2.0, results, "forward", min),
        _over_sizes("forward + backward vs MMCV, worst size", 2.0, results, "training", min),
    ]
    rows = next((rows for size, rows in results.items() if str(size) == STATED_AT and size.channels == 512), [])
    for name, field, mode in (("forward", "forward_peak", FAST), ("training", "training_peak", LEAN)):
        other = LEAN if mode == FAST else FAST
        for against, needed in ((MMCV, 2.9 if mode == FAST else 2.3), (NON_LOCAL, 20.0 if mode == FAST else 17.0)):
            goal = f"{name} memory vs {against}, {STATED_AT}"
            value, aside = ratio(rows, mode, field, against), ratio(rows, other, field, against)
            found.append(Check(goal, needed, mode, value, aside))
    kept = {row.name: row.kept / MIB for row in rows if row.kept is not None}
    goal = f"kept per pass, {STATED_AT}"
    return [*found, Check(goal, 1.5, LEAN, kept.get(LEAN), kept.get(FAST), at_most=True, unit=" MiB")]


def _over_sizes(
    goal: str,
    needed: float,
    results: Results,
    field: str,
    summary: Callable[[list[float]], float],
    against: str = MMCV,
) -> Check:
    def value(mode: str) -> float | None:
        return _summary(summary, (ratio(rows, mode, field, against) for rows in results.values()))

    return Check(goal, needed, FAST, value(FAST), value(LEAN))


def _share(goal: str, needed: float, results: Results, field: str) -> Check:
    def value(mode: str) -> float | None:
        return _summary(median, (getattr(row, field) for rows in results.values() for row in rows if row.name == mode))

    return Check(goal, needed, FAST, value(FAST), value(LEAN), unit="")


def _summary(summary: Callable[[list[float]], float], values: Iterable[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return summary(known) if known else None
