"""The contract of a task, such as semantic segmentation, with the trainer and the commands.

`crisscross.tasks` finds a task by its name. `crisscross.engine.semantic.task` and `crisscross.instances.task` implement
the contract; examples/own_task.py does so outside of the package.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from crisscross.config import OptimConfig, TrainConfig
from crisscross.errors import CrissCrossError
from crisscross.inference.formats import coco_categories
from crisscross.terminal import aligned

if TYPE_CHECKING:
    # Exported networks are run where torch is not installed.
    from torch import nn

    from crisscross.data.samples.loader import Samples
    from crisscross.losses import Losses

# Head and rows of a table.
Rows = list[list[str]]
# A function of the network and a batch on its device that returns the loss and its parts.
StepLosses = Callable[[Any, Any], "Losses"]


class AnyExperiment(Protocol):
    """What the trainer reads of an experiment: a frozen dataclass that also holds what is the task's own."""

    @property
    def name(self) -> str: ...

    @property
    def optim(self) -> OptimConfig: ...

    @property
    def train(self) -> TrainConfig: ...


class Data(Protocol):
    """An opened data set; `splits` holds the images of each split by its name."""

    @property
    def name(self) -> str: ...

    @property
    def root(self) -> Path: ...

    @property
    def splits(self) -> Mapping[str, Sized]: ...


@dataclass(frozen=True)
class Start:
    """The weights that a training starts from: for the backbone, or a whole network; a zoo name, a run or a file.

    Neither: what the experiment names. `resume`: all weights are filled in afterwards, so none are read or fetched.
    `chosen` are the dotted keys that the user has set, which no weights change.
    """

    backbone: str | os.PathLike[str] | None = None
    network: str | os.PathLike[str] | None = None
    resume: bool = False
    chosen: Collection[str] = ()


def facts_of_file(path: Path) -> dict[str, str]:
    """Name and SHA-256 of a file of weights, to store with the weights that begin with it."""
    with path.open("rb") as file:
        return {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


class Settled(NamedTuple):
    """An experiment with what follows from its data, the split to validate on or "", and lines to show."""

    experiment: Any
    val_split: str
    lines: Sequence[str] = ()


class Built(NamedTuple):
    """A network on the CPU, facts to store with its weights, and lines to show."""

    network: Any
    facts: dict[str, Any]
    lines: Sequence[str] = ()


@dataclass(frozen=True, repr=False)
class Result:
    """The scores of one split; as text, the tables that `crisscross evaluate` shows.

    Attributes:
        score: decides which weights of a run are the best: higher is better; None where nothing could be scored.
        logged: what the log of a run gets, by names that begin with `val_`.
        shown: lines and tables for the terminal.
        facts: the same and more as JSON values.
    """

    score: float | None
    logged: Mapping[str, Any]
    shown: Sequence[str | Rows] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return "\n".join(line for part in self.shown for line in ([part] if isinstance(part, str) else aligned(part)))


@dataclass(frozen=True)
class Scoring:
    """How a split is scored.

    `workers` processes read the images, `interrupted()` asks to stop, `title` names the progress, `tta` is multi-scale
    + flip testing, `save` a folder in which the predictions (`Task.outputs`) are written, `dice` asks for tables with
    Dice, precision and recall of each class, `detailed` for whatever more `Task.report` shows of an evaluation.
    """

    workers: int = 0
    interrupted: Callable[[], bool] = lambda: False
    title: str = "evaluate"
    tta: bool = False
    save: str | os.PathLike[str] | None = None
    dice: bool = False
    detailed: bool = False


DEFAULTS = Scoring()


# What a task has to support by code of its own, and refuses until it says otherwise.
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            ("init", "backbone_weights", "cache", "tta", "score", "big", "name", "save_predictions", "video", "dice"),
            "is not available for this task",
        ),
        **dict.fromkeys(
            ("legend",),
            "is not available for this task",
        ),
        **dict.fromkeys(("benchmark", "convert", "export"), "handles semantic segmentation only"),
    }
)


def refused_except(*supported: str) -> Mapping[str, str]:
    """`Task.refuses` of a task that supports some of the options in `REFUSED`, e.g. `refused_except("init", "tta")`."""
    return {name: reason for name, reason in REFUSED.items() if name not in supported}


def check_split(data: Data, split: str) -> None:
    """Refuse a split that the data does not have.

    Raises:
        CrissCrossError: the splits that it has are named.
    """
    if split not in data.splits:
        raise CrissCrossError(f"{data.root}: no split {split!r}; this data set has {', '.join(data.splits) or 'none'}")


class Task(Protocol):
    """One kind of network: what it is trained on, by which losses, and how its results are scored and shown.

    A subclass has to define only what has no default.

    Attributes:
        name: what an experiment says in `task`, a key of `crisscross.tasks.TASKS` or `package.module:Class`; also the
            default of `experiment.task`.
        experiment: the dataclass of its experiments, see `AnyExperiment`.
        title: of the score that decides which weights are the best, e.g. `mIoU`.
        columns: of the scores in a run's log.csv.
        kinds: the folders of images that `crisscross predict` writes, the keys of what `draw` returns.
        formats: the values of `crisscross predict --format` that it supports.
        listing: the JSON file that it writes with the `facts` of all results, or "".
        one_size: all training batches have one size, so that searching for the fastest convolutions pays off.
        layouts: data sets by the name that `crisscross data check --name` takes, which `check` looks through.
        refuses: options and commands that it does not support, by their names in Python (`backbone_weights`), and why.
    """

    name: str
    experiment: type[Any]
    title: str
    columns: tuple[str, ...]
    kinds: tuple[str, ...] = ("drawn",)
    formats: tuple[str, ...] = ("png",)
    listing: str = ""
    one_size: bool = True
    layouts: tuple[str, ...] = ()
    refuses: Mapping[str, str] = REFUSED

    def open(self, experiment: Any, root: str) -> Data:
        """The data set in the folder `root`, laid out as the experiment says."""

    def check(self, root: str) -> tuple[list[str], list[str]]:
        """Lines about the data in a folder of one of the `layouts`, and its problems."""
        return [], []

    def settle(self, experiment: Any, data: Any, start: Start, stored: Any = None) -> Settled:
        """Check the data and fill in what follows from it, such as classes; `stored`: as the resumed run began."""

    def build(self, experiment: Any, start: Start) -> Built:
        """The network of a settled experiment, which it keeps in its attribute `experiment`."""

    def samples(self, experiment: Any, data: Any, cache: str = "", first: bool = True) -> "Samples":
        """The endless stream of training samples; `cache` as `--cache` has it, `first`: whether this process prints.

        Its batches have `names` (of their images), `to(device)` and `pin_memory()`.
        """

    def epoch_size(self, experiment: Any, data: Any) -> int:
        """How many samples `train.epochs` counts as one epoch: the images of the training split."""
        return len(data.splits[experiment.data.train_split])

    def losses(self, experiment: Any) -> StepLosses:
        """The function of a training step. If it has a method `summary()`, that gives a line for the end, or ""."""

    def evaluate(self, network: Any, data: Any, split: str, options: Scoring = DEFAULTS) -> Result:
        """Score the network on a split.

        Raises:
            Interrupted: `options.interrupted()` became true.
        """

    def load(self, source: Any, device: str = "cpu", **options: Any) -> Any:
        """A network with its weights in evaluation mode, by default that of a run folder or a file of a run.

        The options are those of `crisscross.load`.
        """
        from crisscross.checkpoints import native

        path = native.run_weights(Path(source))
        experiment, tensors = native.read_header_as(self.experiment, path)[0], native.read_tensors(path)
        if experiment is None:
            raise CrissCrossError(f"{path}: holds no experiment, so its network is not known")
        native.check_finite(tensors, str(path))
        network = self.build(experiment, Start(resume=True)).network
        native.fill(network, tensors, str(path))
        return native.placed(network, device)

    def predictor(self, network: Any, **options: Any) -> Callable[[np.ndarray], Any]:
        """A function of an image uint8 [H, W, 3] (RGB); the options are those given to `crisscross predict`."""

    def files(self, data: Any, split: str) -> Sequence[Path]:
        """The files of a split, which no command writes over."""
        return ()

    def outputs(self, data: Any, split: str, folder: str | os.PathLike[str]) -> Sequence[Path]:
        """The files with predictions that `evaluate` writes into a folder."""
        return ()

    def draw(self, network: Any, image: np.ndarray, result: Any, legend: bool = False) -> Mapping[str, Any]:
        """A PIL image for each of `kinds`, from an image uint8 [H, W, 3] and what the predictor returned for it.

        `legend` is only passed for `--legend`, which a task without one refuses.
        """
        return {}

    def summary(self, result: Any) -> str:
        """What the predictor returned, in a few words for the terminal, or ""."""
        return ""

    def masks(self, result: Any) -> Iterable[tuple[int, np.ndarray, dict[str, Any]]]:
        """Class number, mask bool [H, W] and further facts, as JSON values, of each thing that was found."""
        return ()

    def fractions(self, result: Any) -> Sequence[float]:
        """The fraction (0..1) of the image that each class has."""
        return ()

    def categories(self, network: Any) -> list[dict[str, Any]]:
        """COCO's `categories`, in the order of the classes."""
        return coco_categories(network.classes)

    def facts(self, result: Any) -> Any:
        """What the predictor returned, as JSON values."""
        return None

    def report(self, network: Any, data: Any, split: str, result: Result) -> Mapping[str, Any]:
        """What pages show of an evaluation: fields of `crisscross.report.Report` about scores, classes and images."""
        return {}

    def stages(self, network: Any) -> "list[list[nn.Parameter]]":
        """The backbone's parameters from stem to last stage, for `optim.backbone_factor`."""
        return []

    def classifiers(self, network: Any) -> Sequence[str]:
        """Names of the layers whose weights have the classes as their first dimension."""
        return ()
