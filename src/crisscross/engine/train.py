"""A training run: everything around the loop. Checks, builds, validates, saves, resumes."""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from crisscross.checkpoints import native
from crisscross.config import DataConfig, Experiment, to_yaml
from crisscross.data import DataSet
from crisscross.data.check.checks import quick_check
from crisscross.data.files.cache import check_cache, open_cache
from crisscross.data.samples.clips import check_clips, training_samples
from crisscross.data.samples.loader import check_share, training_batches
from crisscross.engine.average import WeightAverage
from crisscross.engine.loop import NoImages, Step, freeze_unread, training_steps
from crisscross.engine.optimizer import create_optimizer
from crisscross.engine.processes import asked_to_stop, ending_together
from crisscross.engine.run.interrupt import Interrupt, Interrupted
from crisscross.engine.run.journal import Journal
from crisscross.engine.run.lock import run_lock
from crisscross.engine.run.record import write_record
from crisscross.engine.run.state import (
    BEST,
    Position,
    after_saving,
    as_begun,
    check_run_folder,
    load_state,
    save_state,
    saved_line,
    stored_experiment,
)
from crisscross.engine.run.trackers import start_trackers
from crisscross.engine.schedule import check_warmup, warmup_facts
from crisscross.engine.semantic.build import build_network
from crisscross.engine.semantic.class_weights import with_class_weights
from crisscross.engine.semantic.evaluate import evaluate
from crisscross.engine.semantic.unseen_classes import SeenClasses
from crisscross.engine.setup import Machine, algorithms, check_validation, create_accelerator, with_classes
from crisscross.engine.shard import check_shard, shard, whole
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
    init: str | None = None,
) -> Outcome:
    """Train one experiment into a run folder.

    The folder gets `experiment.yaml`, `run.json`, `log.jsonl`, `log.csv`, `last.safetensors` (resumable) and
    `best.safetensors` (highest validation mIoU; absent without a validation split). With `train.ema` both hold the
    averaged weights.

    Args:
        experiment: the recipe; classes are filled in from the data set.
        dataset: opened data set.
        folder: where the run is written.
        machine: workers and device.
        backbone_weights: a local file instead of timm's own pretrained weights.
        resume: continue the run in `folder` to the same weights as if it had never stopped.
        listener: called with every finished `Step`.
        init: a zoo name, run folder or file whose weights are the start, instead of a pretrained backbone.

    Raises:
        CrissCrossError: bad data, a folder in use, an experiment that differs from the resumed one, a loss that is
            not finite, weights that are not (they are not written), a full disk, or another process of the same
            training that ended. Where images cannot be read any more, the run is saved first.
        Exception: whatever a validation raises; the run was saved before it.
    """
    with algorithms(experiment.train), run_lock(folder), ending_together(folder):
        run = _Run(experiment, dataset, folder, machine or Machine(), backbone_weights, resume, init)
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
        init: str | None = None,
    ) -> None:
        self.experiment, self.dataset = with_classes(experiment, dataset), dataset
        self.folder, self.machine, self.resume = folder, machine, resume
        data = self.experiment.data
        self.validates = data.val_split in dataset.splits
        if not self.validates and data.val_split not in ("", DataConfig.val_split):
            dataset.split(data.val_split)
        check_validation(data, self.validates, self.experiment.train.early_stop)
        for split in [data.train_split] + [data.val_split] * self.validates:
            check_clips(dataset, split, self.experiment.model.frames)
        quick_check(dataset, [data.train_split] + [data.val_split] * self.validates)
        earlier = stored_experiment(folder) if resume else None
        self.lines = []
        if earlier is not None:
            self.experiment, line = as_begun(self.experiment, earlier)
            self.lines += [line] if line else []
        self.experiment = with_class_weights(self.experiment, dataset, earlier)
        self.loss = create_loss(self.experiment.loss, data.ignore, self.experiment.model.align_corners)
        check_cache(self.machine.cache)
        if self.machine.shard:
            check_shard(self.experiment.train, self.machine.compile)
        check_run_folder(folder, self.experiment, self.dataset.root, resume)
        train = self.experiment.train
        self.accelerator = create_accelerator(train.precision, self.machine, folder)
        check_share(train, self.accelerator.num_processes)
        torch.manual_seed(train.seed)
        self.facts: dict[str, Any] = {"seconds": 0.0, "torch": torch.__version__.split("+")[0]}
        self.segmenter, facts, line = build_network(
            self.experiment, backbone_weights, resume, self.machine, self.accelerator, init
        )
        self.lines += [line] if line else []
        self.facts |= facts | warmup_facts(self.experiment.optim)
        self.sharded = self.machine.shard and self.accelerator.num_processes > 1
        if self.sharded:
            shard(self.segmenter, self.accelerator.device)
        elif self.accelerator.num_processes > 1:
            freeze_unread(self.segmenter, self.loss, self.experiment, self.accelerator)
        self.optimizer = create_optimizer(self.experiment.optim, self.segmenter)
        self.average = WeightAverage(self.segmenter, train.ema) if train.ema else None
        # Before any state is loaded: preparing would move AdamW's step counts to the device.
        self.prepared = self._prepared()
        self.position, self.seen = Position(), SeenClasses(self.experiment.data.classes)
        if resume:
            self.position, self.facts = load_state(folder, self.segmenter, self.optimizer, self.average)
            check_warmup(folder, self.experiment, self.position.iteration, self.facts)
        if self.accelerator.scaler is not None and "scaler" in self.facts:
            self.accelerator.scaler.load_state_dict(self.facts["scaler"])

    def _prepared(self) -> tuple[Any, Any]:
        """Network and optimizer as the loop uses them."""
        if not self.sharded:
            return self.accelerator.prepare(self.segmenter, self.optimizer)
        # For its types alone: shards need nobody who brings gradients together.
        network = self.accelerator.prepare_model(self.segmenter, device_placement=False, evaluation_mode=True)
        return network, self.accelerator.prepare(self.optimizer)

    def go(self, listener: Callable[[Step], None]) -> Outcome:
        """Run to the end or to an interruption; either way the folder is complete."""
        total, self.began = self.experiment.train.iterations, time.perf_counter()
        self.seconds_before, shown = self.facts["seconds"], self.accelerator.is_main_process
        if shown:
            remove_leftovers(self.folder, alone=True)
            write_record(self.folder, self.experiment, self.dataset, asdict(self.machine), self.position.iteration)
            write_text(self.folder / "experiment.yaml", to_yaml(self.experiment))
        start_trackers(self.accelerator, self.machine.trackers, self.experiment, self.folder)
        with Interrupt() as interrupt, Progress("train", total, self.position.iteration, shown) as progress:
            self.interrupt = interrupt
            start, validated = self.position.iteration, self.position.validated
            self.journal = Journal(self.folder, start, validated, self.accelerator, progress)
            self._say_first(progress)
            with self.journal:
                if self._validate_if_due():
                    self._save()
                self._train(listener)
            if line := self.seen.line():
                progress.say(line)
            if self._waited_enough() and self.position.iteration < total:
                progress.say(f"stopped early: {self.position.waited} validations in a row without a better one")
        self.accelerator.end_training()
        finished = self.position.iteration == total or self._waited_enough()
        return Outcome(self.position, finished, time.perf_counter() - self.began, shown)

    def _say_first(self, progress: Progress) -> None:
        for line in self.lines:
            progress.say(line)
        if self.machine.shard and not self.sharded:
            progress.say("--shard is without effect: one process trains alone and holds everything")
        if not self.validates and (split := self.experiment.data.val_split):
            progress.say(f"no split {split!r}: nothing is validated")

    def _train(self, listener: Callable[[Step], None]) -> None:
        train = self.experiment.train
        for step in self._steps():
            self.position.iteration = step.iteration
            self._record(step)
            listener(step)
            validated = self._validate_if_due()
            stop = asked_to_stop(self.accelerator, bool(self.interrupt)) or self._waited_enough()
            due = train.checkpoint_every and step.iteration % train.checkpoint_every == 0
            if stop or due or validated or step.iteration == train.iterations:
                self._save()
            if stop:
                break

    def _waited_enough(self) -> bool:
        """Whether early stopping has waited long enough for a better validation."""
        limit = self.experiment.train.early_stop
        return limit > 0 and self.position.waited >= limit

    def _steps(self) -> Iterator[Step]:
        if self._waited_enough():
            return
        accelerator, start = self.accelerator, self.position.iteration
        network, optimizer = self.prepared
        pairs = self.dataset.split(self.experiment.data.train_split)
        read = open_cache(self.machine.cache, self.dataset, pairs, accelerator.is_main_process)
        samples = training_samples(self.dataset, pairs, self.experiment, read)
        share = accelerator.process_index, accelerator.num_processes
        on_gpu = accelerator.device.type == "cuda"
        batches = training_batches(samples, start, *share, self.machine.workers, pin=on_gpu)
        watched = self.seen.watch(batches)
        try:
            yield from training_steps(network, optimizer, watched, self.loss, self.experiment, accelerator, start)
        except NoImages as error:
            # Of several processes, others may be amid a step.
            if accelerator.num_processes > 1:
                raise
            self._save()
            raise CrissCrossError(f"{error}; {saved_line(self.folder, self.position.iteration)}") from error

    def _record(self, step: Step) -> None:
        seconds = self.seconds_before + time.perf_counter() - self.began
        self.facts["seconds"] = round(seconds, 1)
        self.position.skipped += step.skipped
        if self.average is not None and not step.skipped:
            self.average.update(step.iteration)
        self.journal.step(step, seconds, self.position.skipped)

    def _validate_if_due(self) -> bool:
        """Validate, and keep the weights if they are the best so far. A validation that is interrupted is due again.

        The run is saved before: whatever happens to the validation, even a kill, costs no step.
        """
        train, position = self.experiment.train, self.position
        at_end = position.iteration == train.iterations
        due = at_end or (train.validate_every and position.iteration % train.validate_every == 0)
        if not (self.validates and due and position.iteration > position.validated):
            return False
        self._save()
        with (
            after_saving(self.folder, position.iteration),
            self.average.in_place() if self.average is not None else nullcontext(),
        ):
            self._share_statistics()
            with whole(self.segmenter) as segmenter:
                return self._validate(segmenter)

    def _validate(self, segmenter: Segmenter) -> bool:
        position, split, workers = self.position, self.experiment.data.val_split, self.machine.workers
        try:
            with self.accelerator.autocast():
                result = evaluate(segmenter, self.dataset, split, workers, lambda: bool(self.interrupt), "validate")
        except Interrupted:
            return False
        position.validated, position.waited = position.iteration, position.waited + 1
        miou = result.scores.miou
        if miou is not None and (position.best_miou is None or miou > position.best_miou):
            position.best_miou, position.best_iteration, position.waited = miou, position.iteration, 0
            if self.accelerator.is_main_process:
                facts = {"iteration": position.iteration, "val_miou": miou, **self.facts}
                native.save(segmenter, self.folder / BEST, facts=facts)
        self.journal.validation(position.iteration, result.scores)
        return True

    def _share_statistics(self) -> None:
        """Give every process the batch-norm statistics of the first, which are the ones that are saved."""
        if self.accelerator.num_processes > 1:
            for buffer in self.segmenter.buffers():
                torch.distributed.broadcast(buffer, 0)

    def _save(self) -> None:
        if self.accelerator.scaler is not None:
            self.facts["scaler"] = self.accelerator.scaler.state_dict()
        first = self.accelerator.is_main_process
        save_state(self.folder, self.segmenter, self.optimizer, self.position, self.facts, self.average, first)
