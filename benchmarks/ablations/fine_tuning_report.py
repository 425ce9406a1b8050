"""Tables of the runs of `fine_tuning.py`.

python -m benchmarks.ablations.fine_tuning_report runs/fine-tuning/runs.jsonl
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.ablations.fine_tuning import IMAGES, STARTS, TARGET, Case
from benchmarks.ablations.runs import spread

Runs = dict[int, dict[str, Any]]

TITLES = {"scratch": "from scratch", "imagenet": "ImageNet backbone", "source": "network of other classes"}
SETTINGS = ("lr", "backbone_factor", "frozen")


def read(file: Path) -> dict[Case, Runs]:
    """Finished runs of the target, by case (of seed 0), then by seed."""
    cells: dict[Case, Runs] = defaultdict(dict)
    for line in file.read_text(encoding="utf-8").splitlines():
        run = json.loads(line)
        if run["iou"].keys() == TARGET.keys():
            case = Case(run["start"], run["images"], 0, *(run[name] for name in SETTINGS))
            cells[case][run["seed"]] = run
    return cells


def base(start: str, images: int) -> Case:
    """The case of the main table."""
    return Case(start, images, 0, 1e-3, 1.0, "nothing") if start == "scratch" else Case(start, images, 0)


def percent(runs: Runs) -> str:
    """Mean and standard deviation of mIoU over the seeds, in per cent."""
    values = [100 * run["miou"] for run in runs.values()]
    return spread(values, 1) + " (one seed)" * (len(values) == 1)


def difference(runs: Runs, others: Runs) -> str:
    """Mean and standard deviation of the differences in mIoU points over the seeds that both have."""
    values = [100 * (runs[seed]["miou"] - others[seed]["miou"]) for seed in runs if seed in others]
    return spread(values, 1, sign="+") + " (one seed)" * (len(values) == 1)


def starts(cells: dict[Case, Runs]) -> str:
    """mIoU by number of images and start, and what the last start gains over the second."""
    lines = [f"| images | {' | '.join(TITLES[start] for start in STARTS)} | last to second |"]
    lines.append("|---:|" + "---:|" * (len(STARTS) + 1))
    for images in IMAGES:
        runs = [cells.get(base(start, images), {}) for start in STARTS]
        lines.append(f"| {images} | {' | '.join(map(percent, runs))} | {difference(runs[2], runs[1])} |")
    return "\n".join(lines) + "\n"


def classes(cells: dict[Case, Runs]) -> str:
    """Mean IoU of each class."""
    lines = [f"| images | start | {' | '.join(TARGET)} |", "|---:|---|" + "---:|" * len(TARGET)]
    for images in IMAGES:
        for start in STARTS:
            if runs := cells.get(base(start, images)):
                found = [f"{100 * mean(run['iou'][name] for run in runs.values()):.1f}" for name in TARGET]
                lines.append(f"| {images} | {TITLES[start]} | {' | '.join(found)} |")
    return "\n".join(lines) + "\n"


def settings(cells: dict[Case, Runs]) -> str:
    """mIoU with one setting changed, and the difference to the main table's."""
    lines = ["| start | learning rate | backbone's | frozen | mIoU | to the first |", "|---|---:|---:|---|---:|---:|"]
    for start in STARTS[:0:-1]:
        first = base(start, 30)
        for case in sorted((case for case in cells if case.start == start and case.images == 30), key=first.__ne__):
            values = f"{case.lr:g} | {case.lr * case.backbone_factor:g} | {case.frozen}"
            change = difference(cells[case], cells[first]) if case != first and first in cells else ""
            lines.append(f"| {TITLES[start]} | {values} | {percent(cells[case])} | {change} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS.jsonl")
    cells = read(parser.parse_args().runs)
    print("\n".join((starts(cells), classes(cells), settings(cells))))


if __name__ == "__main__":
    main()
