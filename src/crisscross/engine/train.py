"""A training run: everything around the loop. Checks, builds, logs, validates, saves, resumes."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from crisscross.backbones import load_backbone_weights
from crisscross.checkpoints import native
from crisscross.checkpoints.backbone import read_backbone_weights
from crisscross.config import DataConfig, Experiment, differences, to_yaml
from crisscross.data import DataSet
from crisscross.data.check import quick_check
from crisscross.data.loader import TrainingSamples, check_share, training_batches
from crisscross.engine.balance import with_class_weights
from crisscross.engine.evaluate import evaluate
from crisscross.engine.interrupt import Interrupt, Interrupted
from crisscross.engine.log import RunLog
from crisscross.engine.loop import Step, create_optimiser, training_steps
from crisscross.engine.setup import Machine, create_accelerator, save_in_steps, with_classes
from crisscross.engine.state import BEST, LAST, Position, load_state, save_state, stored_experiment
from crisscross.errors import CrissCrossError
from crisscross.files import remove_leftovers, write_text
from crisscross.losses import create_loss
from crisscross.models import Segmenter
from crisscross.progress import Progress


@dataclass(frozen=True)
class Outcome:
    """How a run ended: where it stands, whether it reached its end, how long this part of it took, and who tells."""

    position: Position
    finished: bool
    seconds: float
    main_process: bool = True


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
        if not self.validates and data.val_split not in ("", DataConfig.val_split):
            dataset.split(data.val_split)
        quick_check(dataset, [data.train_split] + [data.val_split] * self.validates)
        earlier = stored_experiment(folder) if resume else None
        self.experiment = with_class_weights(self.experiment, dataset, earlier)
        self._check_folder()
        train = self.experiment.train
        self.accelerator = create_accelerator(train.precision, machine, folder)
        check_share(train, self.accelerator.num_processes)
        torch.manual_seed(train.seed)
        self.facts: dict[str, Any] = {"seconds": 0.0, "torch": torch.__version__.split("+")[0]}
        self.segmenter = self._network(backbone_weights)
        self.optimiser = create_optimiser(self.experiment.optim, self.segmenter)
        # Before any state is loaded: preparing would move AdamW's step counts to the device.
        self.prepared = self.accelerator.prepare(self.segmenter, self.optimiser)
        self.position = Position()
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
                    f"continue with `crisscross train {self.folder / 'experiment.yaml'} --data {self.dataset.root} "
                    f"--out {self.folder} --resume`"
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
            digest = hashlib.sha256(backbone_weights.read_bytes()).hexdigest()
            self.facts["backbone_weights"] = {"file": backbone_weights.name, "sha256": digest}
        # A process's own share of a batch is too small for statistics of its own.
        if self.accelerator.num_processes > 1 and self.accelerator.device.type == "cuda":
            segmenter = nn.SyncBatchNorm.convert_sync_batchnorm(segmenter)
        segmenter = segmenter.to(self.accelerator.device).to(memory_format=torch.channels_last)
        return save_in_steps(segmenter, self.experiment.train)

    def go(self, listener: Callable[[Step], None]) -> Outcome:
        """Run to the end or to an interruption; either way the folder is complete."""
        total, began = self.experiment.train.iterations, time.perf_counter()
        if self.accelerator.is_main_process:
            remove_leftovers(self.folder)
            write_text(self.folder / "experiment.yaml", to_yaml(self.experiment))
        log = RunLog(self.folder, self.position.iteration) if self.accelerator.is_main_process else None
        self.seconds_before = self.facts["seconds"]
        self.began = began
        if self.machine.tensorboard:
            self.accelerator.init_trackers("tensorboard")
        shown = self.accelerator.is_main_process
        with Interrupt() as interrupt, Progress("train", total, self.position.iteration, shown) as progress:
            self.interrupt, self.progress, self.log = interrupt, progress, log
            if not self.validates:
                progress.say(f"no split {self.experiment.data.val_split!r}: nothing is validated")
            if self._validate_if_due():
                self._save()
            try:
                self._train(listener)
            finally:
                if log is not None:
                    log.write_csv()
        self.accelerator.end_training()
        finished = self.position.iteration == total
        return Outcome(self.position, finished, time.perf_counter() - began, self.accelerator.is_main_process)

    def _train(self, listener: Callable[[Step], None]) -> None:
        train = self.experiment.train
        for step in self._steps():
            self.position.iteration = step.iteration
            self._record(step)
            listener(step)
            self._validate_if_due()
            stop = self._stopping()
            due = train.checkpoint_every and step.iteration % train.checkpoint_every == 0
            if stop or due or step.iteration == train.iterations:
                self._save()
            if stop:
                break

    def _stopping(self) -> bool:
        """Whether any process was asked to stop: all of them get the same answer."""
        if self.accelerator.num_processes == 1:
            return bool(self.interrupt)
        asked = torch.tensor(int(bool(self.interrupt)), device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked, "sum"))

    def _steps(self) -> Iterator[Step]:
        accelerator, start = self.accelerator, self.position.iteration
        network, optimiser = self.prepared
        samples = TrainingSamples(self.dataset, self.dataset.split(self.experiment.data.train_split), self.experiment)
        batches = training_batches(
            samples, start, accelerator.process_index, accelerator.num_processes, self.machine.workers
        )
        experiment = self.experiment
        loss = create_loss(experiment.loss, experiment.data.ignore, experiment.model.align_corners)
        return training_steps(network, optimiser, batches, loss, self.experiment, accelerator, start)

    def _record(self, step: Step) -> None:
        seconds = self.seconds_before + time.perf_counter() - self.began
        self.facts["seconds"] = round(seconds, 1)
        parts = {f"loss_{name}": value for name, value in step.parts.items()}
        rounded = {name: round(value, 5) for name, value in ({"loss": step.loss} | parts).items()}
        if self.log is not None:
            self.log.add(step.iteration, **rounded, lr=step.lr, seconds=round(seconds, 2))
        if self.machine.tensorboard:
            self.accelerator.log({"loss": step.loss, **parts, "lr": step.lr}, step=step.iteration)
        self.progress.update(step.iteration, loss=f"{step.loss:.3f}", lr=f"{step.lr:.2g}")

    def _validate_if_due(self) -> bool:
        """Validate, and keep the weights if they are the best so far. A validation that is interrupted is due again."""
        train, position = self.experiment.train, self.position
        at_end = position.iteration == train.iterations
        due = at_end or (train.validate_every and position.iteration % train.validate_every == 0)
        if not (self.validates and due and position.iteration > position.validated):
            return False
        split, workers = self.experiment.data.val_split, self.machine.workers
        self._share_statistics()
        try:
            with self.accelerator.autocast():
                result = evaluate(
                    self.segmenter, self.dataset, split, workers, lambda: bool(self.interrupt), "validate"
                )
        except Interrupted:
            return False
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
        return True

    def _share_statistics(self) -> None:
        """Give every process the batch-norm statistics of the first, which are the ones that are saved."""
        if self.accelerator.num_processes > 1:
            for buffer in self.segmenter.buffers():
                torch.distributed.broadcast(buffer, 0)

    def _save(self) -> None:
        if self.accelerator.scaler is not None:
            self.facts["scaler"] = self.accelerator.scaler.state_dict()
        if self.accelerator.is_main_process:
            save_state(self.folder, self.segmenter, self.optimiser, self.position, self.facts)
