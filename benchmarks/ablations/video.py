"""Clips of 1, 3 and 5 frames on CamVid under one budget: test mIoU and temporal consistency, several seeds.

    OMP_NUM_THREADS=1 python -m benchmarks.ablations.video CAMVID --init camvid-light --out runs/video
    python -m benchmarks.ablations.video CAMVID --budget gpu --backbone-weights FILE --out runs/video

All rows see the same number of clips a step and so the same number of labeled frames (the middle one of each clip);
the frames around it cost time. Each run is an ordinary training run below `--out`; finished ones are kept, so that the
command can be stopped and typed again, and seeds can be added. The table is written anew after every run.
"""

import json
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean

from benchmarks.ablations.runs import (
    LAST_WEIGHTS,
    Facts,
    once,
    open_camvid,
    parser_for,
    run_script,
    score,
    spread,
    train_and_score,
)
from crisscross.config import Experiment, apply_overrides
from crisscross.data import DataSet
from crisscross.files import write_text
from crisscross.zoo import recipe
from crisscross.zoo.recipes import CAMVID_WEIGHTS

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
COLUMNS = {
    "miou": "mIoU",
    "consistency": "consistency",
    "class_consistency": "consistency, mean over classes",
    "alone_miou": "mIoU, same weights on single frames",
}


def main() -> None:
    """Run what is not finished yet, and write the table."""
    parser = parser_for(__doc__, "video")
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 3], metavar="T")
    parser.add_argument("--budget", choices=BUDGETS, default="cpu")
    parser.add_argument("--init", metavar="NAME", help="start from the weights of this network")
    parser.add_argument("--backbone-weights", type=Path, metavar="FILE", help="a local file instead of timm's weights")
    arguments = parser.parse_args()
    dataset, out = open_camvid(arguments.data), arguments.out / arguments.budget
    start = {"init": arguments.init, "backbone_weights": arguments.backbone_weights}
    scores: dict[int, dict[int, Facts]] = {frames: {} for frames in arguments.frames}
    # One seed of every length before the next: a table that is cut off compares like with like.
    for seed, frames in product(arguments.seeds, arguments.frames):
        experiment, folder = _experiment(arguments.budget, frames, seed), out / f"T{frames}" / f"seed{seed}"
        scores[frames][seed] = once(folder, {}, partial(_run, experiment, dataset, folder, start), keep=True)
        _write(out / "video", scores)


def _experiment(budget: str, frames: int, seed: int) -> Experiment:
    name, cut = BUDGETS[budget]
    return apply_overrides(recipe(name), {**LAST_WEIGHTS, **cut, "model.frames": frames, "train.seed": seed})


def _run(experiment: Experiment, dataset: DataSet, folder: Path, start: Facts) -> Facts:
    """Scores of one run on the test split with all facts."""
    network, found, facts = train_and_score(experiment, dataset, folder, lambda: start)
    assert found.consistency is not None
    # Trained on clips, used without: what is left of the difference came from training, not from looking around.
    alone = score(experiment, dataset, folder, frames=1)[1] if experiment.model.frames > 1 else found
    return facts | {
        "consistency": found.consistency.pixels,
        "class_consistency": found.consistency.mean,
        "alone_miou": alone.scores.miou,
        "gate": float(network.head.attend.attention.gamma),
    }


def _write(path: Path, scores: dict[int, dict[int, Facts]]) -> None:
    head = ["frames", "seeds", *COLUMNS.values(), "minutes a run"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---:|" * len(head)]
    for frames, by_seed in scores.items():
        if not by_seed:
            continue
        cells = [spread([100 * run[key] for run in by_seed.values()]) for key in COLUMNS]
        minutes = f"{mean(run['seconds'] for run in by_seed.values()) / 60:.1f}"
        lines.append("| " + " | ".join([f"T = {frames}", str(len(by_seed)), *cells, minutes]) + " |")
    write_text(path.with_suffix(".md"), "\n".join(lines) + "\n")
    write_text(path.with_suffix(".json"), json.dumps(scores, indent=1) + "\n")


if __name__ == "__main__":
    run_script(main)
