"""Honest ablations on CamVid: every variant with several seeds, mean and spread, scored on the test split.

    python benchmarks/ablations/camvid.py CAMVID --backbone-weights FILE --out runs/ablations
    python benchmarks/ablations/camvid.py CAMVID --budget gpu --grid recurrence losses --out runs/ablations

Each run is an ordinary training run below `--out`; finished ones are kept, so that the command can be stopped and typed
again, and seeds can be added. The tables (`GRID.md`, `GRID.json`) are written anew after every run.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from crisscross.checkpoints import load
from crisscross.config import Experiment, apply_overrides
from crisscross.data import DataSet, open_dataset
from crisscross.engine.semantic.evaluate import evaluate
from crisscross.engine.setup import Machine
from crisscross.engine.train import train
from crisscross.errors import CrissCrossError
from crisscross.files import write_text
from crisscross.zoo import recipe
from crisscross.zoo.recipes import CAMVID_WEIGHTS

Changes = dict[str, Any]
# What was found, by variant (or row of a table) and seed.
Scores = dict[str, dict[int, dict[str, Any]]]

# Recipe, and what the budget changes in it. Nothing is chosen on a validation split: the last weights are scored.
BUDGETS: dict[str, tuple[str, Changes]] = {
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
ALWAYS: Changes = {"data.val_split": "none", "train.validate_every": 0, "train.checkpoint_every": 0}

# What a variant changes in the recipe; "as is" is its row in every table.
VARIANTS: dict[str, Changes] = {
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="CAMVID", help="CamVid in the SegNet layout")
    parser.add_argument("--grid", choices=GRIDS, nargs="+", default=list(GRIDS), help="all of them unless told")
    parser.add_argument("--budget", choices=BUDGETS, default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--backbone-weights", type=Path, metavar="FILE", help="a local file instead of timm's weights")
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"), metavar="DIR")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    dataset = open_dataset("camvid", arguments.data)
    out = arguments.out / arguments.budget
    scores: Scores = {variant: _finished(out, variant) for grid in arguments.grid for variant in GRIDS[grid].values()}
    # One seed of every variant before the next: a table that is cut off compares like with like.
    for seed in arguments.seeds:
        for variant in scores:
            experiment = _experiment(arguments.budget, VARIANTS[variant], seed)
            folder = _folder(out, variant) / f"seed{seed}"
            scores[variant][seed] = _run(experiment, dataset, folder, arguments.backbone_weights)
            for grid in arguments.grid:
                _write(out / grid, {row: scores[name] for row, name in GRIDS[grid].items()})


def _folder(out: Path, variant: str) -> Path:
    return out / "runs" / variant.replace(" ", "-")


def _finished(out: Path, variant: str) -> dict[int, dict[str, Any]]:
    """What was found before, by seed."""
    files = sorted(_folder(out, variant).glob("seed*/scores.json"))
    return {int(file.parent.name.removeprefix("seed")): json.loads(file.read_text(encoding="utf-8")) for file in files}


def _experiment(budget: str, changes: Changes, seed: int) -> Experiment:
    name, cut = BUDGETS[budget]
    return apply_overrides(recipe(name), {**ALWAYS, **cut, **changes, "train.seed": seed})


def _run(experiment: Experiment, dataset: DataSet, folder: Path, weights: Path | None) -> dict[str, Any]:
    """Scores of one run on the test split; it is trained, or trained to its end, where that is not done yet."""
    done = folder / "scores.json"
    if done.is_file():
        return json.loads(done.read_text(encoding="utf-8"))
    resume = (folder / "last.safetensors").is_file()
    outcome = train(experiment, dataset, folder, Machine(), weights, resume)
    if not outcome.finished:
        raise SystemExit("stopped; type the same again to go on")
    found = evaluate(load(folder), dataset, "test")
    facts = {
        "miou": found.scores.miou,
        "iou": dict(zip(dataset.classes, found.scores.iou, strict=True)),
        "seconds": round(outcome.seconds),
    }
    write_text(done, json.dumps(facts, indent=1) + "\n")
    # The optimizer's state of a finished run is of no use any more.
    (folder / "last.safetensors").unlink()
    return facts


def _write(path: Path, scores: Scores) -> None:
    seeds = sorted({seed for runs in scores.values() for seed in runs})
    head = ["", *(f"seed {seed}" for seed in seeds), "mean", "spread", "to the first row", "spread", "minutes a run"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    first = next(iter(scores.values()))
    for variant, runs in scores.items():
        if not runs:
            continue
        values = {seed: 100 * run["miou"] for seed, run in runs.items()}
        # The same seed sees the same images in the same order: differences of pairs scatter less than means.
        pairs = [values[seed] - 100 * first[seed]["miou"] for seed in values if seed in first]
        change = ["", ""] if runs is first or not pairs else [f"{mean(pairs):+.2f}", _spread(pairs)]
        cells = [f"{values[seed]:.2f}" if seed in values else "" for seed in seeds]
        minutes = f"{mean(run['seconds'] for run in runs.values()) / 60:.1f}"
        summary = [f"{mean(values.values()):.2f}", _spread(list(values.values())), *change, minutes]
        lines.append("| " + " | ".join([variant, *cells, *summary]) + " |")
    write_text(path.with_suffix(".md"), "\n".join(lines) + "\n")
    write_text(path.with_suffix(".json"), json.dumps(scores, indent=1) + "\n")


def _spread(values: list[float]) -> str:
    """The standard deviation of a sample."""
    return f"{stdev(values):.2f}" if len(values) > 1 else "-"


if __name__ == "__main__":
    try:
        main()
    except CrissCrossError as error:
        raise SystemExit(f"camvid.py: {error}") from None
