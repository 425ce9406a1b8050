"""Experiment trackers (TensorBoard, W&B, ...) by way of accelerate."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from crisscross.config import hint
from crisscross.config.parse import flatten
from crisscross.engine.task import AnyExperiment
from crisscross.errors import CrissCrossError

# Trackers whose package has another name.
PACKAGES = {"comet_ml": "comet-ml"}
# Trackers whose package is an extra of ours.
OURS = {"tensorboard": "`pip install '.[tensorboard]'` in a checkout of crisscross"}


def check_trackers(names: tuple[str, ...]) -> None:
    """Refuse trackers that do not exist or are not installed.

    Raises:
        CrissCrossError: the first such name, and what to install.
    """
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise CrissCrossError(f"--track {name}: no such tracker; {hint(name, list(LOGGER_TYPE_TO_CLASS))}")
        if name not in map(str, get_available_trackers()):
            how = OURS.get(name) or f"`pip install {PACKAGES.get(name, name)}`"
            raise CrissCrossError(f"--track {name} needs its package: run {how}")


def start_trackers(accelerator: Accelerator, names: tuple[str, ...], experiment: AnyExperiment, folder: Path) -> None:
    """Open the trackers and send them the experiment. TensorBoard writes into `folder`/tensorboard.

    Raises:
        CrissCrossError: a tracker cannot be opened, e.g. because nobody is logged in.
    """
    if not names:
        return
    values = {key: _plain(value) for key, value in flatten(experiment).items()}
    # TensorBoard takes the project's name for its folder and would make a table of its own of the values.
    project, config = ("tensorboard", None) if names == ("tensorboard",) else ("crisscross", values)
    options = {"wandb": {"name": folder.name, "dir": str(folder)}}
    try:
        accelerator.init_trackers(project, config, {name: options[name] for name in names if name in options})
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CrissCrossError(f"--track {','.join(names)}: cannot be started: {reason}") from error


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str, bool)) else str(value)
