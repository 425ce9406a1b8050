"""`README.md` of a run: what it is, and commands to paste."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from crisscross.checkpoints.license import license_note
from crisscross.engine.run.overview import title_of
from crisscross.engine.task import Data, Task

# What of `data` another data set brings itself.
OTHER_DATA = "data={name: auto, classes: [], palette: [], flip_pairs: [], ignore: 255}"


def readme(task: Task, experiment: Any, data: Data, folder: Path, val_split: str, facts: Mapping[str, Any]) -> str:
    """The page as Markdown.

    Args:
        task: what was trained.
        experiment: settled, with its classes.
        data: the data set.
        folder: of the run, as it was given: commands name it so.
        val_split: what was validated on, or "".
        facts: those stored with the weights, among them their license.
    """
    train, split = experiment.train, val_split or experiment.data.train_split
    weights = "`best.safetensors` has the weights of the best validation, `last.safetensors` those of the end."
    if not val_split:
        weights = "Nothing was validated: `last.safetensors` has the weights of the end."
    images = (file for file in task.files(data, split) if file.suffix.lower() != ".json")
    image = str(next(images, Path("image.jpg")))
    parts = [
        f"# {folder.resolve().name}",
        f"{title_of(experiment)}, trained with crisscross for {train.iterations} iterations of {train.batch} images.",
        f"{weights} `report.html` has curves, scores and images, `experiment.yaml` every value of the experiment.",
        "## Commands",
        "They run in the folder that the training was started in.",
        _code("", _commands(task, experiment, data, folder, split, image)),
        *_program(task, experiment, folder, image),
        *_classes(experiment),
        "## License of the weights",
        _license(facts),
    ]
    return "\n\n".join(parts) + "\n"


def runs_code(experiment: Any) -> bool:
    """Whether loading the weights imports code that the experiment names."""
    return ":" in getattr(experiment, "task", "") or bool(getattr(experiment, "code", False))


def _commands(task: Task, experiment: Any, data: Data, folder: Path, split: str, image: str) -> list[str]:
    """Lines for a shell, each under a comment."""
    run, root, config = str(folder), str(data.root), str(folder / "experiment.yaml")
    trust = ["--trust", run] if runs_code(experiment) else []
    other = (
        ["--set", OTHER_DATA]
        if hasattr(experiment.data, "palette")
        else ["--set", "data={classes: [], categories: []}"]
    )
    longer = f"train.iterations={2 * experiment.train.iterations}"
    found = {
        "Predict images or folders of images.": ["predict", run, image, "--out", f"{run}-predictions", *trust],
        "Score a data set with the same classes.": ["evaluate", run, "--data", root, "--split", split, *trust],
        "Fine-tune: after --data the folder of any data set, whatever its classes.": (
            ["train", config, "--data", root, "--out", f"{run}-tuned", "--init", run, *other]
        ),
        "Train longer.": ["train", "--resume", run, "--set", longer],
    }
    if "init" in task.refuses:
        del found["Fine-tune: after --data the folder of any data set, whatever its classes."]
    return [line for what, words in found.items() for line in (f"# {what}", shlex.join(["crisscross", *words]))]


def _program(task: Task, experiment: Any, folder: Path, image: str) -> list[str]:
    """The part about Python; nothing for tasks from outside, whose networks are not known here."""
    if ":" in task.name:
        return []
    run = repr(str(folder))
    trust = f", trust={run}" if runs_code(experiment) else ""
    lines = [
        "import crisscross",
        "import numpy as np",
        "from PIL import Image",
        "",
        f"network = crisscross.load({run}{trust})",
        f"image = np.array(Image.open({image!r}).convert('RGB'))",
        "print(network.predict(image))",
    ]
    return ["## Python", _code("python", lines)]


def _classes(experiment: Any) -> list[str]:
    """The part about classes: number, name and color."""
    names = getattr(experiment.data, "classes", ())
    if not names:
        return []
    palette = getattr(experiment.data, "palette", ()) or [()] * len(names)
    rows = [
        f"| {number} | {_cell(name)} | {' '.join(map(str, color))} |"
        for number, (name, color) in enumerate(zip(names, palette, strict=True))
    ]
    return ["## Classes", "\n".join(["| number | class | color (RGB) |", "|---|---|---|", *rows])]


def _license(facts: Mapping[str, Any]) -> str:
    license = facts.get("license")
    if isinstance(license, str) and license:
        return f"`{license}`{_limit(license)}: that of the weights that training started from."
    return (
        "None is recorded: the weights that training started from, if any, name none. Mind the terms of the data, and "
        "of weights that were fetched for the backbone."
    )


def _limit(license: str) -> str:
    return ", not for commercial use" if "not for commercial use" in license_note(license) else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(language: str, lines: Iterable[str]) -> str:
    return "\n".join([f"```{language}", *lines, "```"])
