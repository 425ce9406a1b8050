"""Tables and plot of the runs of `receptive_field.py`.

    python -m benchmarks.ablations.receptive_field_report runs/receptive-field/runs.jsonl --out when-attention-helps

writes `when-attention-helps.md` and `when-attention-helps.svg`. Needs Matplotlib.
"""

import argparse
import json
from dataclasses import fields
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from benchmarks.ablations.receptive_field import VARIANTS, Variant
from benchmarks.ablations.runs import spread
from crisscross.files import write_text

Runs = dict[int, dict[str, Any]]


class Cell(NamedTuple):
    """What a row of the table is about: the backbone's stages, the length of training, the attention."""

    stages: int
    iterations: int
    variant: str


NONE = "R = 0"
TITLES = {
    VARIANTS["R=0"]: NONE,
    VARIANTS["R=1"]: "R = 1",
    VARIANTS["R=2"]: "R = 2",
    VARIANTS["R=2-open"]: "R = 2, gate from 1",
    VARIANTS["R=2-gate-x10"]: "R = 2, gate x 10",
    VARIANTS["R=2-scaled"]: "R = 2, query / 4",
}
COLORS = {"R = 2": "tab:blue", "R = 2, gate from 1": "tab:orange", "R = 2, gate x 10": "tab:green"}
# What the three 3 x 3 convolutions of the head add to a field at stride 8, in pixels.
HEAD = 3 * 2 * 8


def read(file: Path) -> dict[Cell, Runs]:
    """Finished runs by stages, iterations and variant, then by seed."""
    cells: dict[Cell, Runs] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        run = json.loads(line)
        # Older runs lack the facts that had one value alone.
        variant = Variant(**{field.name: run[field.name] for field in fields(Variant) if field.name in run})
        cells.setdefault(Cell(run["stages"], run["iterations"], TITLES[variant]), {})[run["seed"]] = run
    order = list(TITLES.values())
    return dict(sorted(cells.items(), key=lambda cell: (*cell[0][:2], order.index(cell[0].variant))))


def gains(cells: dict[Cell, Runs], cell: Cell) -> list[float]:
    """Differences in mIoU points to R = 0 of the same seed."""
    without = cells.get(cell._replace(variant=NONE), {})
    runs = cells[cell]
    return [100 * (runs[seed]["miou"] - without[seed]["miou"]) for seed in sorted(runs) if seed in without]


def table(cells: dict[Cell, Runs]) -> str:
    """One row for each backbone, length and variant."""
    seeds = sorted({seed for runs in cells.values() for seed in runs})
    head = ["stages", "iterations", "variant", *(f"seed {seed}" for seed in seeds), "mIoU", "to R = 0"]
    head += ["gate at the end", "attention / input", "field, px", "CPU minutes"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|---|" + "---:|" * (len(head) - 3)]
    for cell, runs in cells.items():
        found = [f"{100 * runs[seed]['miou']:.2f}" if seed in runs else "" for seed in seeds]
        every = [runs[seed] for seed in sorted(runs)]
        attends = cell.variant != NONE
        row = [str(cell.stages), str(cell.iterations), cell.variant, *found]
        row += [spread([100 * run["miou"] for run in every])]
        row += [spread(gains(cells, cell), sign="+") if attends else ""]
        row += [spread([run["gate_end"] for run in every], 3) if attends else ""]
        row += [spread([run["attention_over_input"] for run in every]) if attends else ""]
        row += [spread([run["effective_field"] for run in every], 0)]
        minutes = [run["cpu_seconds_training"] / 60 for run in every if run["cpu_seconds_training"]]
        row += [f"{mean(minutes):.1f}" if minutes else ""]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def classes(cells: dict[Cell, Runs]) -> str:
    """Mean difference to R = 0 by class, of the same seeds."""
    columns = [cell for cell in cells if cell.variant != NONE and gains(cells, cell)]
    names = list(next(iter(next(iter(cells.values())).values()))["iou"])
    titles = (f"{cell.stages} stages, {cell.iterations} iterations, {cell.variant}" for cell in columns)
    lines = ["| | " + " | ".join(titles) + " |", "|---|" + "---:|" * len(columns)]
    for name in names:
        row = []
        for cell in columns:
            without = cells[cell._replace(variant=NONE)]
            changes = [
                100 * (run["iou"][name] - without[seed]["iou"][name])
                for seed, run in cells[cell].items()
                if seed in without
            ]
            row.append(f"{mean(changes):+.1f}")
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def plot(cells: dict[Cell, Runs], file: Path) -> None:
    """Gain of every seed, and their mean, against the receptive field of the network without attention.

    One panel for each length of training.
    """
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "crisscross"
    from matplotlib import pyplot

    lengths = sorted({cell.iterations for cell in cells})
    figure, panels = pyplot.subplots(
        1, len(lengths), figsize=(1.2 + 4.2 * len(lengths), 3.4), sharex=True, sharey=True, squeeze=False
    )
    for length, axes in zip(lengths, panels[0], strict=True):
        axes.axhline(0, color="0.6", linewidth=0.8)
        for place, (variant, color) in enumerate(COLORS.items()):
            points = []
            for cell in cells:
                if (cell.iterations, cell.variant) != (length, variant) or not (found := gains(cells, cell)):
                    continue
                # Side by side, where several variants have one field.
                field = next(iter(cells[cell].values()))["theoretical_field"] + HEAD + 6 * place
                axes.plot([field] * len(found), found, "o", color=color, markersize=4, alpha=0.6)
                points.append((field, mean(found)))
            if points:
                axes.plot(*zip(*points, strict=True), color=color, marker="_", label=variant)
        axes.set_title(f"{length} iterations", fontsize=10)
        axes.set_xlabel("theoretical receptive field, pixels")
    panels[0][0].set_ylabel("mIoU, points above R = 0")
    panels[0][-1].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Write tables and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS.jsonl")
    parser.add_argument("--out", type=Path, default=Path("when-attention-helps"), metavar="NAME")
    arguments = parser.parse_args()
    cells = read(arguments.runs)
    write_text(arguments.out.with_suffix(".md"), table(cells) + "\n" + classes(cells))
    plot(cells, arguments.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
