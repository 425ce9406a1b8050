"""What the ablations share: trainings on CamVid that can be stopped, their scores on its test split, their facts.

A run is an ordinary training in a folder of its own, `seedN` below that of its row; `scores.json` in it says that it is
finished. Nothing is chosen on a validation split: the last weights are scored.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import torch

from crisscross.checkpoints import load
from crisscross.config import Experiment
from crisscross.config.documents import read_json
from crisscross.data import DataSet, open_dataset
from crisscross.engine.run.record import RECORD
from crisscross.engine.semantic.evaluate import Evaluation, evaluate
from crisscross.engine.setup import Machine
from crisscross.engine.train import train
from crisscross.errors import CrissCrossError
from crisscross.files import write_text
from crisscross.layers.devices import find_device
from crisscross.layers.modes import computing_in
from crisscross.models import Segmenter

Facts = dict[str, Any]
SCORES = "scores.json"
LAST = "last.safetensors"
LAST_WEIGHTS: Facts = {"data.val_split": "none", "train.validate_every": 0, "train.checkpoint_every": 0}


class Scored(NamedTuple):
    """A finished training: its network, what it scores on the test split, and the facts that are stored."""

    network: Segmenter
    evaluation: Evaluation
    facts: Facts


def train_and_score(experiment: Experiment, dataset: DataSet, folder: Path, start: Callable[[], Facts]) -> Scored:
    """Train one network, or the rest of one, and score it on the test split.

    Args:
        start: makes what the training starts from, as arguments of `train`; called only for a new run.

    Raises:
        SystemExit: the training was stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    resume = (folder / LAST).is_file()
    began = time.process_time()
    outcome = train(experiment, dataset, folder, Machine(), resume=resume, **({} if resume else start()))
    if not outcome.finished:
        raise SystemExit("stopped; type the same again to go on")
    trained = time.process_time()
    network, found = score(experiment, dataset, folder)
    facts = {
        "miou": found.scores.miou,
        "iou": dict(zip(dataset.classes, found.scores.iou, strict=True)),
        "iterations": experiment.train.iterations,
        "batch": experiment.train.batch,
        "precision": experiment.train.precision,
        "test_images": found.images,
        "cpu_seconds_training": None if resume else round(trained - began),
        "cpu_seconds_test": round(time.process_time() - trained),
        "seconds": round(outcome.seconds),
        **provenance(folder),
    }
    return Scored(network, found, facts)


def score(experiment: Experiment, dataset: DataSet, folder: Path, **overrides: Any) -> tuple[Segmenter, Evaluation]:
    """The network of a run and its scores on the test split, on the device and in the precision of the training.

    Args:
        overrides: as those of `crisscross.load`.
    """
    device = find_device("auto")
    network = load(folder, device, trust=folder, **overrides)
    with computing_in(experiment.train.precision, torch.device(device)):
        return network, evaluate(network, dataset, "test")


def provenance(folder: Path) -> Facts:
    """Commit of the folder where it was started, versions, processor, device and threads of a run's last start."""
    start = read_json(folder / RECORD)["starts"][-1]
    git, versions, hardware = (start[name] for name in ("git", "versions", "hardware"))
    return {
        "commit": git and git["commit"][:12] + "-dirty" * git["changed"],
        "cpu": hardware["processor"],
        **{name: hardware[name] for name in ("device", "threads")},
        **{name: versions[name] for name in ("python", "torch", "timm", "numpy")},
    }


def once(folder: Path, row: Facts, make: Callable[[], Facts], keep: bool = False) -> Facts:
    """The facts of a run: those that it has stored, else `row` and those that `make` returns, which are stored.

    `last.safetensors`, weights and optimizer, is deleted once the scores are stored, unless `keep`.
    """
    if (folder / SCORES).is_file():
        return read_facts(folder)
    facts = row | make()
    write_text(folder / SCORES, json.dumps(facts) + "\n")
    if not keep:
        (folder / LAST).unlink()
    return facts


def read_facts(folder: Path) -> Facts:
    """The facts of a finished run."""
    facts: Facts = read_json(folder / SCORES)
    return facts


def collect(out: Path, folders: Iterable[Path]) -> None:
    """Write `runs.jsonl` of the facts of these finished runs, one line each."""
    write_text(out / "runs.jsonl", "".join((folder / SCORES).read_text(encoding="utf-8") for folder in folders))


def finished(out: Path, pattern: str) -> list[Path]:
    """Folders of the finished runs below `out` that match a pattern, sorted."""
    return [file.parent for file in sorted(out.glob(f"{pattern}/{SCORES}"))]


def open_camvid(folder: Path, every: int = 1) -> DataSet:
    """CamVid with every `every`-th image of its test split."""
    dataset = open_dataset("camvid", folder)
    return replace(dataset, splits=dataset.splits | {"test": dataset.splits["test"][::every]})


def parser_for(description: str | None, out: str) -> argparse.ArgumentParser:
    """A parser with the arguments that all ablations take; `out` is below `runs/`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="CAMVID", help="CamVid in the SegNet layout")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--out", type=Path, default=Path("runs") / out, metavar="DIR")
    return parser


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; an error is one line."""
    try:
        main()
    except CrissCrossError as error:
        raise SystemExit(f"{Path(sys.argv[0]).name}: {error}") from None


def spread(values: list[float], digits: int = 2, sign: str = "-") -> str:
    """Mean and, of more than one value, standard deviation of a sample; `sign` is that of a format specification."""
    text = f"{mean(values):{sign}.{digits}f}" if values else ""
    return f"{text} ± {stdev(values):.{digits}f}" if len(values) > 1 else text
