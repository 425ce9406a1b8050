"""Tables and plot of the runs of `receptive_field.py`.

    python -m benchmarks.ablations.receptive_field_report runs/receptive-field/runs.jsonl --out when-attention-helps

writes `when-attention-helps.md` and `when-attention-helps.svg`. Needs Matplotlib.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from crisscross.files import write_text

Runs = dict[int, dict[str, Any]]

# By R and the gate's first value.
VARIANTS = {"R = 0": (0, 0.0), "R = 2, gate from 0": (2, 0.0), "R = 2, gate from 1": (2, 1.0)}
# What the three 3 x 3 convolutions of the head add to a field at stride 8, in pixels.
HEAD = 3 * 2 * 8


def read(file: Path) -> dict[tuple[int, str], Runs]:
    """Finished runs by stages and variant, then by seed."""
    cells: dict[tuple[int, str], Runs] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        run = json.loads(line)
        variant = next(name for name, value in VARIANTS.items() if value == (run["recurrence"], run["gate_start"]))
        cells.setdefault((run["stages"], variant), {})[run["seed"]] = run
    return dict(sorted(cells.items(), key=lambda cell: (cell[0][0], list(VARIANTS).index(cell[0][1]))))


def gains(cells: dict[tuple[int, str], Runs], stages: int, variant: str) -> list[float]:
    """Differences in mIoU points to R = 0 of the same seed."""
    without = cells.get((stages, "R = 0"), {})
    runs = cells[stages, variant]
    return [100 * (runs[seed]["miou"] - without[seed]["miou"]) for seed in sorted(runs) if seed in without]


def spread(values: list[float], digits: int = 2, sign: str = "-") -> str:
    """Mean and, of more than one value, standard deviation of a sample; `sign` is that of a format."""
    text = f"{mean(values):{sign}.{digits}f}" if values else ""
    return f"{text} ± {stdev(values):.{digits}f}" if len(values) > 1 else text


def table(cells: dict[tuple[int, str], Runs]) -> str:
    """One row for each backbone and variant."""
    seeds = sorted({seed for runs in cells.values() for seed in runs})
    head = ["stages", "variant", *(f"seed {seed}" for seed in seeds), "mIoU", "to R = 0", "gate at the end"]
    head += ["attention / input", "field, px", "CPU minutes"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    for (stages, variant), runs in cells.items():
        found = [f"{100 * runs[seed]['miou']:.2f}" if seed in runs else "" for seed in seeds]
        every = [runs[seed] for seed in sorted(runs)]
        attends = variant != "R = 0"
        row = [str(stages), variant, *found, spread([100 * run["miou"] for run in every])]
        row += [spread(gains(cells, stages, variant), sign="+") if attends else ""]
        row += [spread([run["gate_end"] for run in every], 3) if attends else ""]
        row += [spread([run["attention_over_input"] for run in every]) if attends else ""]
        row += [spread([run["effective_field"] for run in every], 0)]
        minutes = [run["cpu_seconds_training"] / 60 for run in every if run["cpu_seconds_training"]]
        row += [f"{mean(minutes):.1f}" if minutes else ""]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def classes(cells: dict[tuple[int, str], Runs]) -> str:
    """Mean difference to R = 0 by class, of the same seeds."""
    columns = [cell for cell in cells if cell[1] != "R = 0" and gains(cells, *cell)]
    names = list(next(iter(next(iter(cells.values())).values()))["iou"])
    lines = ["| | " + " | ".join(f"{stages} stages, {variant}" for stages, variant in columns) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for name in names:
        row = []
        for stages, variant in columns:
            runs, without = cells[stages, variant], cells[stages, "R = 0"]
            changes = [
                100 * (run["iou"][name] - without[seed]["iou"][name]) for seed, run in runs.items() if seed in without
            ]
            row.append(f"{mean(changes):+.1f}")
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def plot(cells: dict[tuple[int, str], Runs], file: Path) -> None:
    """Gain of every seed, and their mean, against the receptive field of the network without attention."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "crisscross"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.4))
    axes.axhline(0, color="0.6", linewidth=0.8)
    for color, variant in (("tab:blue", "R = 2, gate from 0"), ("tab:orange", "R = 2, gate from 1")):
        points = []
        for stages in sorted({stages for stages, name in cells if name == variant}):
            found = gains(cells, stages, variant)
            field = next(iter(cells[stages, variant].values()))["theoretical_field"] + HEAD
            axes.plot([field] * len(found), found, "o", color=color, markersize=4, alpha=0.6)
            points += [(field, mean(found))] if found else []
        axes.plot(*zip(*points, strict=True), color=color, label=f"{variant}: seeds and their mean")
    axes.set_xlabel("theoretical receptive field of backbone and head, pixels")
    axes.set_ylabel("mIoU, points above R = 0")
    axes.legend(frameon=False)
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
