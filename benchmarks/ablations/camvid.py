"""Honest ablations on CamVid: every variant with several seeds, mean and spread, scored on the test split.

    OMP_NUM_THREADS=1 python -m benchmarks.ablations.camvid CAMVID --backbone-weights FILE --out runs/ablations
    python -m benchmarks.ablations.camvid CAMVID --budget gpu --grid recurrence losses --out runs/ablations

Each run is an ordinary training run below `--out`; finished ones are kept, so that the command can be stopped and typed
again, and seeds can be added. The tables (`GRID.md`, `GRID.json`) are written anew after every run.
"""

import json
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean

from benchmarks.ablations.runs import (
    LAST_WEIGHTS,
    Facts,
    finished,
    once,
    open_camvid,
    parser_for,
    read_facts,
    run_script,
    spread,
    train_and_score,
)
from crisscross.config import Experiment, apply_overrides
from crisscross.data import DataSet
from crisscross.files import write_text
from crisscross.zoo import recipe
from crisscross.zoo.recipes import CAMVID_WEIGHTS

# What was found, by variant (or row of a table) and seed.
Scores = dict[str, dict[int, Facts]]

# Recipe, and what the budget changes in it. Nothing is chosen on a validation split: the last weights are scored.
BUDGETS: dict[str, tuple[str, Facts]] = {
    "cpu": (
        "camvid-light",
        {
            # What was measured had no pyramid yet.
            "model.head.pyramid": 0,
            "preprocess.scale": None,
            "augment.scale": None,
            "augment.crop": [256, 256],
            "train.iterations": 300,
            "train.batch": 4,
            "optim.warmup": 20,
            # The published 100000 are 8.5 % of the pixels of a process's batch there; so are these of 4 x 256 x 256.
            "loss.ohem.keep": 22000,
        },
    ),
    "gpu": (
        "camvid-r50",
        {"train.precision": "bf16", "loss.normalizer": "valid", "loss.class_weights": CAMVID_WEIGHTS},
    ),
}

# What a variant changes in the recipe; "as is" is its row in every table.
VARIANTS: dict[str, Facts] = {
    "as is": {},
    "R=0": {"model.head.recurrence": 0},
    "R=1": {"model.head.recurrence": 1},
    "R=3": {"model.head.recurrence": 3},
    "category-consistent": {"loss.terms": [{"name": "cross_entropy"}, {"name": "category_consistent"}]},
    "ohem": {"loss.terms": [{"name": "ohem"}]},
    "lovasz": {"loss.terms": [{"name": "cross_entropy"}, {"name": "lovasz"}]},
    "normalizer-all": {"loss.normalizer": "all"},
    "no-weights": {"loss.class_weights": []},
    "ema": {"train.ema": 0.98},
}

# The rows of a table, and the variant that each of them is.
GRIDS: dict[str, dict[str, str]] = {
    "recurrence": {"R = 0": "R=0", "R = 1": "R=1", "R = 2": "as is", "R = 3": "R=3"},
    "losses": {
        "cross-entropy": "as is",
        "cross-entropy + category-consistent": "category-consistent",
        "OHEM": "ohem",
        "cross-entropy + Lovasz": "lovasz",
    },
    "normalizer": {"valid pixels": "as is", "all pixels": "normalizer-all"},
    "tricks": {"the recipe": "as is", "no class weights": "no-weights", "averaged weights (EMA 0.98)": "ema"},
}


def main() -> None:
    """Run what is not finished yet, and write the table."""
    parser = parser_for(__doc__, "ablations")
    parser.add_argument("--grid", choices=GRIDS, nargs="+", default=list(GRIDS), help="all of them unless told")
    parser.add_argument("--budget", choices=BUDGETS, default="cpu")
    parser.add_argument("--backbone-weights", type=Path, metavar="FILE", help="a local file instead of timm's weights")
    arguments = parser.parse_args()
    dataset, out, start = open_camvid(arguments.data), arguments.out / arguments.budget, arguments.backbone_weights
    folders = {
        variant: out / "runs" / variant.replace(" ", "-") for grid in arguments.grid for variant in GRIDS[grid].values()
    }
    scores: Scores = {
        variant: {int(run.name.removeprefix("seed")): read_facts(run) for run in finished(folder, "seed*")}
        for variant, folder in folders.items()
    }
    # One seed of every variant before the next: a table that is cut off compares like with like.
    for seed, (variant, parent) in product(arguments.seeds, folders.items()):
        experiment, folder = _experiment(arguments.budget, VARIANTS[variant], seed), parent / f"seed{seed}"
        scores[variant][seed] = once(folder, {}, partial(_run, experiment, dataset, folder, start))
        for grid in arguments.grid:
            _write(out / grid, {row: scores[name] for row, name in GRIDS[grid].items()})


def _experiment(budget: str, changes: Facts, seed: int) -> Experiment:
    name, cut = BUDGETS[budget]
    return apply_overrides(recipe(name), {**LAST_WEIGHTS, **cut, **changes, "train.seed": seed})


def _run(experiment: Experiment, dataset: DataSet, folder: Path, weights: Path | None) -> Facts:
    return train_and_score(experiment, dataset, folder, lambda: {"backbone_weights": weights}).facts


def _write(path: Path, scores: Scores) -> None:
    seeds = sorted({seed for runs in scores.values() for seed in runs})
    head = ["", *(f"seed {seed}" for seed in seeds), "mIoU", "to the first row", "minutes a run"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    first = next(iter(scores.values()))
    for variant, runs in scores.items():
        if not runs:
            continue
        values = {seed: 100 * run["miou"] for seed, run in runs.items()}
        # The same seed sees the same images in the same order: differences of pairs scatter less than means.
        pairs = [values[seed] - 100 * first[seed]["miou"] for seed in values if seed in first]
        change = "" if runs is first else spread(pairs, sign="+")
        cells = [f"{values[seed]:.2f}" if seed in values else "" for seed in seeds]
        minutes = f"{mean(run['seconds'] for run in runs.values()) / 60:.1f}"
        summary = [spread(list(values.values())), change, minutes]
        lines.append("| " + " | ".join([variant, *cells, *summary]) + " |")
    write_text(path.with_suffix(".md"), "\n".join(lines) + "\n")
    write_text(path.with_suffix(".json"), json.dumps(scores, indent=1) + "\n")


if __name__ == "__main__":
    run_script(main)
