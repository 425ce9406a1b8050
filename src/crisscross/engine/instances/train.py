"""A training run of instances: everything around the loop. Checks, builds, validates, saves, resumes."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from crisscross.checkpoints import native
from crisscross.checkpoints.instances import read_mask_rcnn, with_norm_eps
from crisscross.config import InstanceExperiment, to_yaml
from crisscross.data.coco_instances import InstanceData
from crisscross.data.coco_samples import InstanceSamples, collate
from crisscross.data.files.coco_masks import import_coco
from crisscross.data.samples.loader import check_share, training_batches
from crisscross.engine.instances.build import Start, build_network, with_data_classes
from crisscross.engine.instances.evaluate import InstanceEvaluation, evaluate_instances
from crisscross.engine.instances.loop import training_steps
from crisscross.engine.instances.optimizer import create_optimizer, scaling_advice
from crisscross.engine.loop import NoImages, Step
from crisscross.engine.processes import asked_to_stop, ending_together
from crisscross.engine.run.interrupt import Interrupt, Interrupted
from crisscross.engine.run.journal import Journal
from crisscross.engine.run.lock import run_lock
from crisscross.engine.run.record import write_record
from crisscross.engine.run.state import (
    BEST,
    after_saving,
    check_run_folder,
    load_instance_state,
    save_state,
    saved_line,
    stored_experiment_as,
)
from crisscross.engine.run.trackers import start_trackers
from crisscross.engine.setup import Machine, algorithms, check_validation, create_accelerator
from crisscross.errors import CrissCrossError
from crisscross.files import remove_leftovers, write_text
from crisscross.layers.modes import lay_out
from crisscross.progress import Progress

COLUMNS = ("iteration", "loss", "lr", "seconds", "val_mask_ap", "val_box_ap")


@dataclass
class InstancePosition:
    """Where training stands: finished iterations, the last validated one, the best validation mask AP so far."""

    iteration: int = 0
    validated: int = 0
    best_mask_ap: float | None = None
    best_box_ap: float | None = None
    best_iteration: int | None = None
    skipped: int = 0


@dataclass(frozen=True)
class InstanceOutcome:
    """How a run ended: where it stands, whether it reached its end, and who tells."""

    position: InstancePosition
    finished: bool
    seconds: float
    main_process: bool = True


def train_instances(
    experiment: InstanceExperiment,
    data: InstanceData,
    folder: Path,
    machine: Machine | None = None,
    start: Start | None = None,
    resume: bool = False,
    listener: Callable[[Step], None] | None = None,
) -> InstanceOutcome:
    """Train one experiment into a run folder.

    The folder gets `experiment.yaml`, `run.json`, `log.jsonl`, `log.csv`, `last.safetensors` (resumable) and
    `best.safetensors` (highest validation mask AP; absent without a validation split).

    Args:
        experiment: the recipe; classes are filled in from the data.
        data: opened data.
        folder: where the run is written.
        machine: workers and device; `cache` and `compile` do not apply.
        start: local weights instead of torchvision's own.
        resume: continue the run in `folder` to the same weights as if it had never stopped.
        listener: called with every finished `Step`.

    Raises:
        CrissCrossError: as `crisscross.engine.train.train`.
    """
    with algorithms(experiment.train), run_lock(folder), ending_together(folder):
        run = _Run(experiment, data, folder, machine or Machine(), start or Start(), resume)
        return run.go(listener or (lambda step: None))


class _Run:
    """State of one call of `train_instances`."""

    def __init__(
        self,
        experiment: InstanceExperiment,
        data: InstanceData,
        folder: Path,
        machine: Machine,
        start: Start,
        resume: bool,
    ) -> None:
        import_coco()
        self.data, self.folder, self.machine, self.resume = data, folder, machine, resume
        self.lines = [line for line in (scaling_advice(experiment),) if line]
        self.validates = data.has(experiment.data.val_split)
        check_validation(experiment.data, self.validates)
        self.split = data.split(experiment.data.train_split)
        self._check_data(experiment)
        whole = read_mask_rcnn(start.whole) if start.whole and not resume else {}
        self.experiment = self._settled(experiment, start, whole)
        check_run_folder(folder, self.experiment, self.data.root, resume)
        train = self.experiment.train
        self.accelerator = create_accelerator(train.precision, machine, folder)
        check_share(train, self.accelerator.num_processes)
        torch.manual_seed(train.seed)
        self.facts: dict[str, Any] = {"seconds": 0.0, "torch": torch.__version__.split("+")[0]}
        self.segmenter, facts, line = build_network(self.experiment, start, whole, resume)
        self.facts |= facts
        self.lines += [line] if line else []
        lay_out(self.segmenter.to(self.accelerator.device), torch.channels_last)
        self.optimizer = create_optimizer(self.experiment.optim, self.segmenter)
        self.prepared = self.accelerator.prepare(self.segmenter, self.optimizer)
        self.position = InstancePosition()
        if resume:
            state = load_instance_state(folder, self.segmenter, self.optimizer, InstancePosition)
            self.position, self.facts = state
        if self.accelerator.scaler is not None and "scaler" in self.facts:
            self.accelerator.scaler.load_state_dict(self.facts["scaler"])

    def _check_data(self, experiment: InstanceExperiment) -> None:
        splits = [self.split] + ([self.data.split(experiment.data.val_split)] if self.validates else [])
        for split in splits:
            split.check_files()
            self.lines += [f"{split.name}: {line}" for line in split.report]
        if not self.split.learnable:
            raise CrissCrossError(f"{self.split.file}: no image has an instance to learn from")
        left_out = len(self.split) - len(self.split.learnable)
        if left_out:
            self.lines.append(f"train: {left_out} of {len(self.split)} images have no instance to learn from: left out")
        if not self.validates:
            self.lines.append(f"no split {experiment.data.val_split!r}: nothing is validated")

    def _settled(self, experiment: InstanceExperiment, start: Start, whole: dict[str, Any]) -> InstanceExperiment:
        """With classes, and with the epsilon of norms that the weights to start from want."""
        if self.resume:
            stored = stored_experiment_as(InstanceExperiment, self.folder)
            # What was settled at the start of the run follows from its weights.
            data = replace(experiment.data, classes=stored.data.classes, categories=stored.data.categories)
            if not experiment.data.classes:
                model = replace(experiment.model, norm_eps=stored.model.norm_eps)
                experiment = replace(experiment, data=data, model=model)
        settled = with_data_classes(experiment, self.split, whole)
        if self.resume:
            return settled
        if start.whole:
            return with_norm_eps(settled, start.whole)
        if settled.model.pretrained == "coco" and not start.backbone:
            return replace(settled, model=replace(settled.model, norm_eps=0.0))
        return settled

    def go(self, listener: Callable[[Step], None]) -> InstanceOutcome:
        """Run to the end or to an interruption; either way the folder is complete."""
        total, began, shown = self.experiment.train.iterations, time.perf_counter(), self.accelerator.is_main_process
        self.began, self.seconds_before = began, self.facts["seconds"]
        if shown:
            remove_leftovers(self.folder, alone=True)
            write_record(self.folder, self.experiment, self.data, asdict(self.machine), self.position.iteration)
            write_text(self.folder / "experiment.yaml", to_yaml(self.experiment))
        start_trackers(self.accelerator, self.machine.trackers, self.experiment, self.folder)
        with Interrupt() as interrupt, Progress("train", total, self.position.iteration, shown) as progress:
            self.interrupt = interrupt
            start, validated = self.position.iteration, self.position.validated
            self.journal = Journal(self.folder, start, validated, self.accelerator, progress, COLUMNS)
            for line in self.lines:
                progress.say(line)
            with self.journal:
                if self._validate_if_due():
                    self._save()
                self._train(listener)
        self.accelerator.end_training()
        return InstanceOutcome(self.position, self.position.iteration == total, time.perf_counter() - began, shown)

    def _train(self, listener: Callable[[Step], None]) -> None:
        train, accelerator, start = self.experiment.train, self.accelerator, self.position.iteration
        batches = training_batches(
            InstanceSamples(self.split, self.experiment),
            start,
            accelerator.process_index,
            accelerator.num_processes,
            self.machine.workers,
            collate,
            accelerator.device.type == "cuda",
        )
        network, optimizer = self.prepared
        try:
            for step in training_steps(network, optimizer, batches, self.experiment, accelerator, start):
                self._record(step)
                listener(step)
                validated = self._validate_if_due()
                stop = asked_to_stop(self.accelerator, bool(self.interrupt))
                due = train.checkpoint_every and step.iteration % train.checkpoint_every == 0
                if stop or due or validated or step.iteration == train.iterations:
                    self._save()
                if stop:
                    break
        except NoImages as error:
            if accelerator.num_processes > 1:
                raise
            self._save()
            raise CrissCrossError(f"{error}; {saved_line(self.folder, self.position.iteration)}") from error

    def _record(self, step: Step) -> None:
        seconds = self.seconds_before + time.perf_counter() - self.began
        self.position.iteration = step.iteration
        self.facts["seconds"] = round(seconds, 1)
        self.position.skipped += step.skipped
        self.journal.step(step, seconds, self.position.skipped)

    def _validate_if_due(self) -> bool:
        """Validate, and keep the weights if they are the best so far. One that is interrupted is due again.

        The run is saved before: whatever happens to the validation, even a kill, costs no step.
        """
        train, position = self.experiment.train, self.position
        at_end = position.iteration == train.iterations
        due = at_end or (train.validate_every and position.iteration % train.validate_every == 0)
        if not (self.validates and due and position.iteration > position.validated):
            return False
        split, workers = self.data.split(self.experiment.data.val_split), self.machine.workers
        self._save()
        with after_saving(self.folder, position.iteration):
            try:
                with self.accelerator.autocast():
                    result = evaluate_instances(
                        self.segmenter, split, workers, lambda: bool(self.interrupt), "validate"
                    )
            except Interrupted:
                return False
            self._judge(result)
        return True

    def _judge(self, result: InstanceEvaluation) -> None:
        position = self.position
        position.validated = position.iteration
        mask, box = result.mask.summary["AP"], result.box.summary["AP"]
        if mask is not None and (position.best_mask_ap is None or mask > position.best_mask_ap):
            position.best_mask_ap, position.best_box_ap, position.best_iteration = mask, box, position.iteration
            if self.accelerator.is_main_process:
                facts = {"iteration": position.iteration, "val_mask_ap": mask, "val_box_ap": box, **self.facts}
                native.save(self.segmenter, self.folder / BEST, facts=facts)
        shown = "-" if mask is None else f"{mask:.3f}"
        self.journal.scores(position.iteration, {"val_mask_ap": mask, "val_box_ap": box}, mask_AP=shown)

    def _save(self) -> None:
        if self.accelerator.scaler is not None:
            self.facts["scaler"] = self.accelerator.scaler.state_dict()
        first = self.accelerator.is_main_process
        save_state(self.folder, self.segmenter, self.optimizer, self.position, self.facts, write=first)
