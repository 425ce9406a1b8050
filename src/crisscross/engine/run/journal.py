"""Where a run reports its numbers: the log, the trackers and the progress on the terminal."""

import math
from contextlib import nullcontext, suppress
from pathlib import Path

from accelerate import Accelerator

from crisscross.engine.loop import Step
from crisscross.engine.run.log import RunLog
from crisscross.engine.task import Result
from crisscross.errors import CrissCrossError
from crisscross.progress import Progress
from crisscross.terminal import aligned


class Journal:
    """Reports steps and validations; of several processes only the first writes and prints.

    Args:
        folder: the run folder.
        start: the iteration that training continues from.
        validated: the last iteration whose validation counts.
        accelerator: its trackers get every number.
        progress: what is shown.
        columns: of the scores in `log.csv`.
        per_class: print the table of every validation.
    """

    def __init__(
        self,
        folder: Path,
        start: int,
        validated: int,
        accelerator: Accelerator,
        progress: Progress,
        columns: tuple[str, ...],
        per_class: bool = False,
    ) -> None:
        self.log = RunLog(folder, start, validated, columns) if accelerator.is_main_process else None
        self.accelerator, self.progress, self.per_class = accelerator, progress, per_class

    def step(self, step: Step, seconds: float, skipped: int) -> None:
        """A finished step; `seconds` and `skipped` count from the beginning of the run."""
        losses = {"loss": step.loss} | {f"loss_{name}": value for name, value in step.parts.items()}
        # Of one layer `gate`, of several `gate_NAME`.
        gates = {f"gate_{name}" if len(step.gates) > 1 else "gate": value for name, value in step.gates.items()}
        more = gates | ({} if step.grad_norm is None else {"grad_norm": step.grad_norm})
        if self.log is not None:
            # JSON has no infinity.
            facts = {name: round(value, 5) if math.isfinite(value) else None for name, value in (losses | more).items()}
            skip = {"skipped": True} if step.skipped else {}
            self.log.add(step.iteration, **facts, **skip, lr=step.lr, seconds=round(seconds, 2))
        self.accelerator.log({**losses, **more, "lr": step.lr}, step.iteration)
        shown = {"loss": f"{step.loss:.3f}", "lr": f"{step.lr:.2g}"}
        self.progress.update(step.iteration, **shown, **({"skipped": str(skipped)} if skipped else {}))

    def validation(self, iteration: int, result: Result, title: str) -> None:
        """The scores of a validation; `title` names the one that decides which weights are the best."""
        if self.log is not None:
            self.log.add(iteration, **result.logged)
        numbers = {name: value for name, value in result.logged.items() if isinstance(value, int | float)}
        if numbers:
            self.accelerator.log(numbers, iteration)
        shown = "-" if result.score is None else f"{result.score:.3f}"
        tables = [part for part in result.shown if not isinstance(part, str)] if self.per_class else []
        for line in [
            line for table in tables[:1] for line in [f"validation after iteration {iteration}", *aligned(table)]
        ]:
            self.progress.say(line)
        self.progress.update(iteration, **{title: shown})

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # An earlier error, such as a full disk, is the one to report.
        with nullcontext() if error is None else suppress(CrissCrossError, OSError):
            self.close()

    def close(self) -> None:
        """Write the table of the curve."""
        if self.log is not None:
            self.log.write_csv()
