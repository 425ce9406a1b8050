"""Table of the runs of `networks.py`.

    python -m benchmarks.ablations.networks_report runs/networks/runs.jsonl [--times runs/networks/times]

prints it as Markdown. The folder `--times` holds what `crisscross benchmark RUN --json FILE` wrote for one run of a
row, as `ROW.json` with the name of the row's folder.
"""

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.ablations.networks import ROWS, folder_of
from benchmarks.ablations.runs import spread

Runs = dict[int, dict[str, Any]]
# Column -> the rows of a benchmark that may fill it; the fastest does.
TIMES = {
    "ms, plain": (("plain", "fp32"), ("channels-last", "fp32")),
    "optimized": (("optimize", "fp32"),),
    "exported": (("OpenVINO", "fp32"), ("ONNX Runtime", "fp32")),
    "int8": (("OpenVINO", "int8"), ("ONNX Runtime", "int8")),
}


def read(file: Path) -> dict[str, Runs]:
    """Finished runs by row, then by seed."""
    rows: dict[str, Runs] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        run = json.loads(line)
        rows.setdefault(run["row"], {})[run["seed"]] = run
    return {name: rows[name] for name in ROWS if name in rows}


def table(rows: dict[str, Runs], times: Path | None = None) -> str:
    """One line for each row; differences are those to the first row, of the same seed."""
    seeds = sorted({seed for runs in rows.values() for seed in runs})
    name_of_first, first = next(iter(rows.items()))
    head = ["network", *(f"seed {seed}" for seed in seeds), "mIoU", f"to {name_of_first}", "million weights"]
    head += ["MiB of a training step", "CPU minutes", *(TIMES if times else ())]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for name, runs in rows.items():
        every = [runs[seed] for seed in sorted(runs)]
        row = [name, *(f"{100 * runs[seed]['miou']:.2f}" if seed in runs else "" for seed in seeds)]
        row.append(spread([100 * run["miou"] for run in every]))
        gains = [100 * (run["miou"] - first[seed]["miou"]) for seed, run in runs.items() if seed in first]
        row.append("" if runs is first else spread(gains, sign="+"))
        row += [f"{every[0]['parameters'] / 1e6:.2f}", f"{every[0]['training_memory'] / 2**20:.0f}"]
        minutes = [run["cpu_seconds_training"] / 60 for run in every if run["cpu_seconds_training"]]
        row.append(f"{mean(minutes):.1f}" if minutes else "")
        row += _times(times / f"{folder_of(name)}.json") if times else []
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def _times(file: Path) -> list[str]:
    """Milliseconds of an image in each of `TIMES`."""
    if not file.is_file():
        return [""] * len(TIMES)
    known = {(row["variant"], row["precision"]): row["seconds"] for row in json.loads(file.read_text())["rows"]}
    best = [min((known[one] for one in which if one in known), default=None) for which in TIMES.values()]
    return ["" if value is None else f"{1000 * value:.0f}" for value in best]


def classes(rows: dict[str, Runs]) -> str:
    """Mean IoU of each class in percent."""
    names = list(next(iter(next(iter(rows.values())).values()))["iou"])
    lines = ["| | " + " | ".join(rows) + " |", "|---|" + "---:|" * len(rows)]
    for name in names:
        found = [f"{100 * mean(run['iou'][name] for run in runs.values()):.1f}" for runs in rows.values()]
        lines.append(f"| {name} | " + " | ".join(found) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS.jsonl")
    parser.add_argument("--times", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    rows = read(arguments.runs)
    print(table(rows, arguments.times) + "\n" + classes(rows), end="")


if __name__ == "__main__":
    main()
