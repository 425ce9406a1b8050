"""Clips of 1, 3 and 5 frames on CamVid under one budget: test mIoU and temporal consistency, several seeds.

    python benchmarks/ablations/video.py CAMVID --init camvid-light --out runs/video
    python benchmarks/ablations/video.py CAMVID --budget gpu --backbone-weights FILE --out runs/video

All rows see the same number of clips a step and so the same number of labeled frames (the middle one of each clip);
the frames around it cost time. Each run is an ordinary training run below `--out`; finished ones are kept, so that the
command can be stopped and typed again, and seeds can be added. The table is written anew after every run.
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
from crisscross.files import write_text
from crisscross.zoo import recipe
from crisscross.zoo.recipes import CAMVID_WEIGHTS

Facts = dict[str, Any]

# Recipe, and what the budget changes in it. Nothing is chosen on a validation split: the last weights are scored.
BUDGETS: dict[str, tuple[str, Facts]] = {
    "cpu": (
        "ccnet3d-light",
        {"augment.crop": [192, 192], "train.iterations": 150, "optim.lr": 5e-4, "optim.warmup": 20},
    ),
    "gpu": (
        "ccnet3d-r50-camvid",
        {"train.precision": "bf16", "loss.normalizer": "valid", "loss.class_weights": CAMVID_WEIGHTS},
    ),
}
ALWAYS: Facts = {"data.val_split": "none", "train.validate_every": 0, "train.checkpoint_every": 0}
COLUMNS = {
    "miou": "mIoU",
    "consistency": "consistency",
    "class_consistency": "consistency, mean over classes",
    "alone_miou": "mIoU, same weights on single frames",
}


def main() -> None:
    """Run what is not finished yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="CAMVID", help="CamVid in the SegNet layout")
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 3], metavar="T")
    parser.add_argument("--budget", choices=BUDGETS, default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--init", metavar="NAME", help="start from the weights of this network")
    parser.add_argument("--backbone-weights", type=Path, metavar="FILE", help="a local file instead of timm's weights")
    parser.add_argument("--out", type=Path, default=Path("runs/video"), metavar="DIR")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    dataset = open_dataset("camvid", arguments.data)
    out = arguments.out / arguments.budget
    scores: dict[int, dict[int, Facts]] = {frames: {} for frames in arguments.frames}
    # One seed of every length before the next: a table that is cut off compares like with like.
    for seed in arguments.seeds:
        for frames in arguments.frames:
            folder = out / f"T{frames}" / f"seed{seed}"
            experiment = _experiment(arguments.budget, frames, seed)
            scores[frames][seed] = _run(experiment, dataset, folder, arguments.backbone_weights, arguments.init)
            _write(out / "video", scores)


def _experiment(budget: str, frames: int, seed: int) -> Experiment:
    name, cut = BUDGETS[budget]
    return apply_overrides(recipe(name), {**ALWAYS, **cut, "model.frames": frames, "train.seed": seed})


def _run(experiment: Experiment, dataset: DataSet, folder: Path, weights: Path | None, init: str | None) -> Facts:
    """Scores of one run on the test split; it is trained, or trained to its end, where that is not done yet."""
    done = folder / "scores.json"
    if done.is_file():
        return json.loads(done.read_text(encoding="utf-8"))
    resume, machine = (folder / "last.safetensors").is_file(), Machine()
    outcome = train(experiment, dataset, folder, machine, weights, resume, init=init)
    if not outcome.finished:
        raise SystemExit("stopped; type the same again to go on")
    segmenter = load(folder)
    found = evaluate(segmenter, dataset, "test")
    assert found.consistency is not None
    # Trained on clips, used without: what is left of the difference came from training, not from looking around.
    alone = evaluate(load(folder, frames=1), dataset, "test") if experiment.model.frames > 1 else found
    facts = {
        "miou": found.scores.miou,
        "consistency": found.consistency.pixels,
        "class_consistency": found.consistency.mean,
        "alone_miou": alone.scores.miou,
        "gate": float(segmenter.head.attend.attention.gamma),
        "iou": dict(zip(dataset.classes, found.scores.iou, strict=True)),
        "seconds": round(outcome.seconds),
    }
    write_text(done, json.dumps(facts, indent=1) + "\n")
    return facts


def _write(path: Path, scores: dict[int, dict[int, Facts]]) -> None:
    head = ["frames", "seeds", *COLUMNS.values(), "minutes a run"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---:|" * len(head)]
    for frames, by_seed in scores.items():
        if not by_seed:
            continue
        cells = [_mean_and_spread([100 * run[key] for run in by_seed.values()]) for key in COLUMNS]
        minutes = f"{mean(run['seconds'] for run in by_seed.values()) / 60:.1f}"
        lines.append("| " + " | ".join([f"T = {frames}", str(len(by_seed)), *cells, minutes]) + " |")
    write_text(path.with_suffix(".md"), "\n".join(lines) + "\n")
    write_text(path.with_suffix(".json"), json.dumps(scores, indent=1) + "\n")


def _mean_and_spread(values: list[float]) -> str:
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
