"""A training run of any task: everything around the loop. Checks, builds, validates, saves, resumes."""

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from crisscross.checkpoints import native
from crisscross.config import NO_SPLIT
from crisscross.data.files.cache import check_cache
from crisscross.data.samples.loader import check_share, training_batches
from crisscross.engine.average import WeightAverage
from crisscross.engine.global_state import kept_global_state
from crisscross.engine.loop import NoImages, Step, freeze_unread, training_steps
from crisscross.engine.norms import settle_norms
from crisscross.engine.optimizer import create_optimizer
from crisscross.engine.processes import asked_to_stop, ending_together, share_statistics
from crisscross.engine.run.interrupt import Interrupt, Interrupted
from crisscross.engine.run.journal import Journal
from crisscross.engine.run.lock import run_lock
from crisscross.engine.run.overview import overview
from crisscross.engine.run.record import write_record
from crisscross.engine.run.results import FinishedRun, write_results
from crisscross.engine.run.split import held_in, keep_split, write_split
from crisscross.engine.run.state import (
    BEST,
    Outcome,
    Position,
    after_saving,
    check_run_folder,
    load_state,
    save_state,
    saved_line,
    stored_experiment,
)
from crisscross.engine.run.trackers import start_trackers
from crisscross.engine.schedule import with_iterations
from crisscross.engine.semantic.task import SemanticSegmentation
from crisscross.engine.setup import Machine, algorithms, check_validation, create_accelerator
from crisscross.engine.shard import check_shard, shard, whole
from crisscross.engine.task import AnyExperiment, Data, Result, Scoring, Start, Task
from crisscross.errors import CrissCrossError
from crisscross.files import remove_leftovers
from crisscross.layers.modes import lay_out
from crisscross.progress import Progress
from crisscross.speed.memory import apply_memory


def train(
    experiment: AnyExperiment,
    data: Data,
    folder: str | os.PathLike[str],
    machine: Machine | None = None,
    backbone_weights: str | os.PathLike[str] | None = None,
    resume: bool = False,
    listener: Callable[[Step], None] | None = None,
    init: str | os.PathLike[str] | None = None,
    task: Task | None = None,
    chosen: Collection[str] = (),
) -> Outcome:
    """Train one experiment into a run folder.

    The folder gets `experiment.yaml`, `run.json`, `log.jsonl`, `log.csv`, `last.safetensors` (resumable) and
    `best.safetensors` (highest score of a validation; absent without a validation split); at the end `report.html` and
    `README.md`. With `train.ema` both weights are the averaged ones. The process's settings are as before.

    Args:
        experiment: the recipe; classes are filled in from the data set.
        data: opened data set.
        folder: where the run is written.
        machine: workers and device.
        backbone_weights: a zoo name, run folder or file instead of the backbone's own pretrained weights.
        resume: continue the run in `folder` as if it had never stopped; another length, batch or crop is allowed.
        listener: called with every finished `Step`.
        init: a zoo name, run folder or file whose weights are the start, see `crisscross.checkpoints.warm_start`.
        task: what is trained; semantic segmentation by default.
        chosen: dotted keys that the user has set: the weights to start from bring no mean, std and order instead.

    Raises:
        CrissCrossError: bad data, a folder in use, an experiment that differs from the resumed one, a loss that is
            not finite, weights that are not (they are not written), a full disk, or another process of the same
            training that ended. Where images cannot be read any more, the run is saved first.
        Exception: whatever a validation raises; the run was saved before it.
    """
    folder, start = Path(folder), Start(backbone_weights, init, resume, chosen)
    data = held_in(data, getattr(getattr(experiment, "data", None), "val_split", ""))
    data, kept = keep_split(folder, data) if resume else (data, ())
    with kept_global_state(), algorithms(experiment.train), run_lock(folder), ending_together(folder):
        run = _Run(task or SemanticSegmentation(), experiment, data, folder, machine or Machine(), start)
        run.lines += kept
        return run.go(listener or (lambda step: None))


class _Run:
    """State of one call of `train`."""

    def __init__(
        self, task: Task, experiment: AnyExperiment, data: Data, folder: Path, machine: Machine, start: Start
    ) -> None:
        self.task, self.data, self.folder, self.machine = task, data, folder, machine
        stored = stored_experiment(task.experiment, folder) if start.resume else None
        settled, val_split, lines = task.settle(experiment, data, start, stored)
        self.val_split = "" if val_split == NO_SPLIT else val_split
        self.epoch = task.epoch_size(settled, data)
        self.experiment, line = with_iterations(settled, self.epoch, start)
        self.lines, train = [*lines, *filter(None, [line])], self.experiment.train
        check_validation(self.experiment.data, data, self.val_split, train.early_stop)
        self.losses = task.losses(self.experiment)
        check_cache(machine.cache)
        if machine.shard:
            check_shard(train, machine.compile)
        self.lines += check_run_folder(folder, self.experiment, start.resume)
        self.accelerator = create_accelerator(train.precision, machine, folder)
        check_share(train, self.accelerator.num_processes)
        torch.manual_seed(train.seed)
        self.facts: dict[str, Any] = {"seconds": 0.0, "torch": torch.__version__.split("+")[0]}
        self.network = self._built(start)
        self.sharded = machine.shard and self.accelerator.num_processes > 1
        if machine.shard and not self.sharded:
            self.lines.append("--shard is without effect: one process trains alone and holds everything")
        if self.accelerator.num_processes > 1:
            self._prepare_for_processes(start)
        self.optimizer = create_optimizer(self.experiment.optim, self.network, task.stages(self.network))
        self.average = WeightAverage(self.network, train.ema) if train.ema else None
        # Before any state is loaded: preparing would move AdamW's step counts to the device.
        self.prepared = self._prepared()
        self.position, self.best, self.left = Position(), cast(Result | None, None), False
        if start.resume:
            self.position, self.facts = load_state(folder, self.network, self.optimizer, self.average)
        if self.accelerator.scaler is not None and "scaler" in self.facts:
            self.accelerator.scaler.load_state_dict(self.facts["scaler"])

    def _built(self, start: Start) -> Any:
        """The network on its device, as this machine trains it."""
        network, facts, lines = self.task.build(self.experiment, start)
        self.facts |= facts
        train, device = self.experiment.train, self.accelerator.device
        line = settle_norms(network, train.batch_norm, self.accelerator.num_processes, device.type == "cuda")
        self.lines += [*lines, *filter(None, [line, apply_memory(network, train)])]
        lay_out(network.to(device), torch.channels_last)
        if self.machine.compile:
            network.compile()
        return network

    def _prepare_for_processes(self, start: Start) -> None:
        """Spread the weights over the processes, or freeze what would make them wait for each other."""
        train, device = self.experiment.train, self.accelerator.device
        samples, losses = self.task.samples(self.experiment, self.data), self.task.losses(self.experiment)
        count = train.batch // train.accumulate // self.accelerator.num_processes
        batch = samples.collate([samples[n] for n in range(count)])
        if self.sharded:
            mirror = self.task.build(self.experiment, Start(resume=True)).network
            shard(self.network, device, mirror, lambda network: losses(network, batch.to(device)))
        else:
            freeze_unread(self.network, losses, batch, self.accelerator)

    def _prepared(self) -> tuple[Any, Any]:
        """Network and optimizer as the loop uses them."""
        if not self.sharded:
            return self.accelerator.prepare(self.network, self.optimizer)
        # For mixed precision alone: FSDP averages the gradients itself.
        network = self.accelerator.prepare_model(self.network, device_placement=False, evaluation_mode=True)
        return network, self.accelerator.prepare(self.optimizer)

    def go(self, listener: Callable[[Step], None]) -> Outcome:
        """Run to the end or to an interruption; either way the folder is complete."""
        total, self.began = self.experiment.train.iterations, time.perf_counter()
        self.seconds_before, shown = self.facts["seconds"], self.accelerator.is_main_process
        ended = self.position.iteration == total
        if shown and not ended:
            remove_leftovers(self.folder, alone=True)
            write_record(self.folder, self.experiment, self.data, asdict(self.machine), self.position.iteration)
            write_split(self.folder, self.data)
        start_trackers(self.accelerator, self.machine.track, self.experiment, self.folder)
        with Interrupt() as interrupt, Progress("train", total, self.position.iteration, shown) as progress:
            self.interrupt, place = interrupt, (self.position.iteration, self.position.validated)
            columns, per_class = self.task.columns, self.machine.per_class
            self.journal = Journal(self.folder, *place, self.accelerator, progress, columns, per_class)
            what = (self.network, self.experiment, self.data, self.val_split, self.epoch, self.accelerator)
            for line in [*overview(*what), *self.lines]:
                progress.say(line)
            if ended:
                progress.say(f"finished already; to train on, add --set train.iterations={2 * total}")
            with self.journal:
                if self._validate_if_due():
                    self._save()
                if not self.left:
                    self._train(listener)
            finished = not self.left and (self.position.iteration == total or self._waited_enough())
            if line := getattr(self.losses, "summary", str)():
                progress.say(line)
            if finished and self.position.iteration < total:
                progress.say(f"stopped early: {self.position.waited} validations in a row without a better one")
            if finished and shown and not (ended and (self.folder / "report.html").is_file()):
                self._write_results(progress)
        self.accelerator.end_training()
        return Outcome(self.position, finished, time.perf_counter() - self.began, shown, self.left, interrupt.asked)

    def _write_results(self, progress: Progress) -> None:
        what = (self.task, self.experiment, self.data, self.folder, self.val_split, self.position, self.facts)
        alone = self.accelerator.num_processes == 1
        again = Scoring(self.machine.workers, lambda: bool(self.interrupt), "report") if alone else None
        for line in write_results(FinishedRun(*what), str(self.accelerator.device), self.best, again):
            progress.say(line)

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
        samples = self.task.samples(self.experiment, self.data, self.machine.cache, accelerator.is_main_process)
        part = accelerator.process_index, accelerator.num_processes
        on_gpu = accelerator.device.type == "cuda"
        batches = training_batches(samples, start, *part, self.machine.workers, on_gpu)
        network, optimizer = self.prepared
        try:
            yield from training_steps(
                *(network, optimizer, batches, self.losses, self.experiment, accelerator, start, self.task.one_size)
            )
        except NoImages as error:
            # Of several processes, others may be amid a step.
            if accelerator.num_processes > 1:
                raise
            if self.position.iteration:
                self._save()
            raise CrissCrossError(f"{error}; {saved_line(self.folder, self.position.iteration)}") from None

    def _record(self, step: Step) -> None:
        seconds = self.seconds_before + time.perf_counter() - self.began
        self.facts["seconds"] = round(seconds, 1)
        self.position.skipped += step.skipped
        if self.average is not None and not step.skipped:
            self.average.update(step.iteration)
        self.journal.step(step, seconds, self.position.skipped)

    def _validate_if_due(self) -> bool:
        """Validate, and keep the best weights; an interrupted validation is due again. The run is saved before."""
        train, position = self.experiment.train, self.position
        at_end = position.iteration == train.iterations
        due = at_end or (train.validate_every and position.iteration % train.validate_every == 0)
        if not (self.val_split and due and position.iteration > position.validated):
            return False
        self._save()
        with (
            after_saving(self.folder, position.iteration),
            self.average.in_place() if self.average is not None else nullcontext(),
        ):
            share_statistics(self.network, self.accelerator)
            with whole(self.network) as network:
                return self._validate(network)

    def _validate(self, network: nn.Module) -> bool:
        position = self.position
        options = Scoring(self.machine.workers, lambda: bool(self.interrupt), "validate")
        try:
            with self.accelerator.autocast():
                result = self.task.evaluate(network, self.data, self.val_split, options)
        except Interrupted:
            self.left = True
            return False
        position.validated, position.waited = position.iteration, position.waited + 1
        if result.score is not None and (position.best_score is None or result.score > position.best_score):
            position.best_score, position.best_iteration, position.waited = result.score, position.iteration, 0
            self.best = result
            if self.accelerator.is_main_process:
                numbers = {name: value for name, value in result.logged.items() if not isinstance(value, list | tuple)}
                facts = {"iteration": position.iteration, **numbers, **self.facts}
                native.save(network, self.folder / BEST, facts=facts)
        self.journal.validation(position.iteration, result, self.task.title)
        return True

    def _save(self) -> None:
        if self.accelerator.scaler is not None:
            self.facts["scaler"] = self.accelerator.scaler.state_dict()
        first = self.accelerator.is_main_process
        save_state(self.folder, self.network, self.optimizer, self.position, self.facts, self.average, first)
