"""A training run: everything around the loop. Checks, builds, logs, validates, saves, resumes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import is_tensorboard_available

from crisscross.backbones import load_backbone_weights
from crisscross.checkpoints import native
from crisscross.checkpoints.backbone import read_backbone_weights
from crisscross.config import Experiment, differences, save_experiment
from crisscross.data import DataSet
from crisscross.data.check import quick_check
from crisscross.data.loader import TrainingSamples, training_batches
from crisscross.engine.evaluate import check_classes, evaluate
from crisscross.engine.interrupt import Interrupt
from crisscross.engine.log import RunLog
from crisscross.engine.loop import Step, create_optimiser, training_steps
from crisscross.engine.state import BEST, LAST, Position, load_state, save_state, stored_experiment
from crisscross.errors import CrissCrossError
from crisscross.files import write_atomically
from crisscross.losses import create_loss
from crisscross.models import Segmenter
from crisscross.progress import Progress


@dataclass(frozen=True)
class Machine:
    """What a recipe never mentions: `workers` read pictures, `cpu` forbids an accelerator."""

    workers: int = 0
    cpu: bool = False
    tensorboard: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a run ended: where it stands, whether it reached its end, and how long this part of it took."""

    position: Position
    finished: bool
    seconds: float


def with_classes(experiment: Experiment, dataset: DataSet) -> Experiment:
    """The experiment with the data set's classes, palette and ignore value filled in.

    Raises:
        CrissCrossError: the experiment names other classes.
    """
    named = experiment.data.classes
    if named and named != dataset.classes:
        raise CrissCrossError(
            f"data.classes names {len(named)} classes ({', '.join(named[:4])}, ...), "
            f"{dataset.root} has {len(dataset.classes)} ({', '.join(dataset.classes[:4])}, ...)"
        )
    data = replace(experiment.data, classes=dataset.classes, palette=dataset.palette, ignore=dataset.ignore)
    return replace(experiment, data=data)


def create_accelerator(precision: str, machine: Machine, folder: Path) -> Accelerator:
    """accelerate's view of device, processes, precision and trackers.

    Raises:
        CrissCrossError: the precision cannot be had on this device, or TensorBoard is not installed.
    """
    tracker = None
    if machine.tensorboard:
        if not is_tensorboard_available():
            raise CrissCrossError(
                "--tensorboard needs the package tensorboard: pip install crisscross-seg[tensorboard]"
            )
        tracker = "tensorboard"
    # One process may train several times, each with a precision of its own.
    AcceleratorState._reset_state()
    mixed = "no" if precision == "fp32" else precision
    try:
        accelerator = Accelerator(cpu=machine.cpu, mixed_precision=mixed, log_with=tracker, project_dir=folder)
    except (ValueError, RuntimeError) as error:
        raise CrissCrossError(f"train.precision={precision} cannot be had on this device: {error}") from error
    # accelerate itself falls back on float32 here without a word.
    if precision == "fp16" and accelerator.device.type == "cpu":
        raise CrissCrossError("train.precision=fp16 cannot be had on this device: a CPU trains in fp32 or bf16")
    return accelerator


def train(
    experiment: Experiment,
    dataset: DataSet,
    folder: Path,
    machine: Machine | None = None,
    backbone_weights: Path | None = None,
    resume: bool = False,
    listener: Callable[[Step], None] | None = None,
) -> Outcome:
    """Train one experiment into a run folder.

    The folder gets `experiment.yaml`, `log.jsonl`, `log.csv`, `last.safetensors` (resumable) and `best.safetensors`
    (highest validation mIoU; absent without a validation split).

    Args:
        experiment: the recipe; classes are filled in from the data set.
        dataset: opened data set.
        folder: where the run is written.
        machine: workers and device.
        backbone_weights: a local file instead of timm's own pretrained weights.
        resume: continue the run in `folder` to the same weights as if it had never stopped.
        listener: called with every finished `Step`.

    Raises:
        CrissCrossError: bad data, a folder in use, an experiment that differs from the resumed one, a loss that is
            not finite, or a full disk.
    """
    run = _Run(experiment, dataset, folder, machine or Machine(), backbone_weights, resume)
    return run.go(listener or (lambda step: None))


class _Run:
    """State of one call of `train`."""

    def __init__(
        self,
        experiment: Experiment,
        dataset: DataSet,
        folder: Path,
        machine: Machine,
        backbone_weights: Path | None,
        resume: bool,
    ) -> None:
        self.experiment, self.dataset = with_classes(experiment, dataset), dataset
        self.folder, self.machine, self.resume = folder, machine, resume
        data = self.experiment.data
        self.validates = data.val_split in dataset.splits
        quick_check(dataset, [data.train_split] + [data.val_split] * self.validates)
        self._check_folder()
        train = self.experiment.train
        self.accelerator = create_accelerator(train.precision, machine, folder)
        share = self.accelerator.num_processes * train.accumulate
        if train.batch % share:
            raise CrissCrossError(
                f"train.batch must be a multiple of processes x accumulate ({share}), got {train.batch}"
            )
        torch.manual_seed(train.seed)
        self.segmenter = self._network(backbone_weights)
        check_classes(self.segmenter, dataset)
        self.optimiser = create_optimiser(self.experiment.optim, self.segmenter)
        self.position = Position()
        self.facts: dict[str, Any] = {"seconds": 0.0, "torch": torch.__version__.split("+")[0]}
        if resume:
            self.position, self.facts = load_state(folder, self.segmenter, self.optimiser)
        if self.accelerator.scaler is not None and "scaler" in self.facts:
            self.accelerator.scaler.load_state_dict(self.facts["scaler"])

    def _check_folder(self) -> None:
        if self.resume:
            stored = stored_experiment(self.folder)
            if changed := sorted(differences(self.experiment, stored)):
                raise CrissCrossError(
                    f"{self.folder}: cannot resume with another experiment; it differs in {', '.join(changed)}; "
                    f"continue with {self.folder / 'experiment.yaml'}"
                )
        elif (self.folder / LAST).exists():
            raise CrissCrossError(
                f"{self.folder}: holds a run already; continue it with --resume or choose another --out"
            )

    def _network(self, backbone_weights: Path | None) -> Segmenter:
        fetch = not self.resume and backbone_weights is None
        segmenter = Segmenter(self.experiment, initialise=fetch)
        if backbone_weights is not None and not self.resume:
            load_backbone_weights(segmenter.backbone, read_backbone_weights(backbone_weights), str(backbone_weights))
        return segmenter.to(self.accelerator.device).to(memory_format=torch.channels_last)

    def go(self, listener: Callable[[Step], None]) -> Outcome:
        """Run to the end or to an interruption; either way the folder is complete."""
        total, began = self.experiment.train.iterations, time.perf_counter()
        if self.accelerator.is_main_process:
            write_atomically(self.folder / "experiment.yaml", lambda path: save_experiment(self.experiment, path))
        log = RunLog(self.folder, self.position.iteration) if self.accelerator.is_main_process else None
        self.seconds_before = self.facts["seconds"]
        self.began = began
        if self.machine.tensorboard:
            self.accelerator.init_trackers("tensorboard")
        with Interrupt() as interrupt, Progress("train", total, self.position.iteration) as progress:
            self.interrupt, self.progress, self.log = interrupt, progress, log
            self._validate_if_due()
            for step in self._steps():
                self.position.iteration = step.iteration
                self._record(step)
                listener(step)
                self._validate_if_due()
                every = self.experiment.train.checkpoint_every
                if interrupt or step.iteration == total or (every and step.iteration % every == 0):
                    self._save()
                if interrupt:
                    break
        if log is not None:
            log.write_csv()
        self.accelerator.end_training()
        return Outcome(self.position, self.position.iteration == total, time.perf_counter() - began)

    def _steps(self) -> Any:
        accelerator, start = self.accelerator, self.position.iteration
        network, optimiser = accelerator.prepare(self.segmenter, self.optimiser)
        samples = TrainingSamples(self.dataset, self.dataset.split(self.experiment.data.train_split), self.experiment)
        batches = training_batches(
            samples, start, accelerator.process_index, accelerator.num_processes, self.machine.workers
        )
        loss = create_loss(self.experiment.loss, self.experiment.data.ignore)
        return training_steps(network, optimiser, batches, loss, self.experiment, accelerator, start)

    def _record(self, step: Step) -> None:
        seconds = self.seconds_before + time.perf_counter() - self.began
        self.facts["seconds"] = round(seconds, 1)
        facts = {"loss": round(step.loss, 5), "lr": step.lr, "seconds": round(seconds, 2)}
        if self.log is not None:
            self.log.add(step.iteration, **facts)
        if self.machine.tensorboard:
            self.accelerator.log({"loss": step.loss, "lr": step.lr}, step=step.iteration)
        self.progress.update(step.iteration, loss=f"{step.loss:.3f}", lr=f"{step.lr:.2g}")

    def _validate_if_due(self) -> None:
        """Validate, and keep the weights if they are the best so far. A validation that is interrupted is due again."""
        train, position = self.experiment.train, self.position
        at_end = position.iteration == train.iterations
        due = at_end or (train.validate_every and position.iteration % train.validate_every == 0)
        if not (self.validates and due and position.iteration > position.validated) or self.interrupt:
            return
        split = self.experiment.data.val_split
        result = evaluate(
            self.segmenter, self.dataset, split, self.machine.workers, lambda: bool(self.interrupt), "validate"
        )
        if result is None:
            return
        position.validated = position.iteration
        miou = result.scores.miou
        if self.log is not None:
            self.log.add(position.iteration, val_miou=miou, val_iou=result.scores.iou)
        if self.machine.tensorboard and miou is not None:
            self.accelerator.log({"val_miou": miou}, step=position.iteration)
        if miou is not None and (position.best_miou is None or miou > position.best_miou):
            position.best_miou, position.best_iteration = miou, position.iteration
            if self.accelerator.is_main_process:
                facts = {"iteration": position.iteration, "val_miou": miou, **self.facts}
                native.save(self.segmenter, self.folder / BEST, facts=facts)
        self.progress.update(position.iteration, mIoU="-" if miou is None else f"{miou:.3f}")

    def _save(self) -> None:
        if self.accelerator.scaler is not None:
            self.facts["scaler"] = self.accelerator.scaler.state_dict()
        if self.accelerator.is_main_process:
            save_state(self.folder, self.segmenter, self.optimiser, self.position, self.facts)
