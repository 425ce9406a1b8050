"""The files that a prediction becomes, in the formats of `crisscross predict --format`."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.engine.task import Task
from crisscross.errors import CrissCrossError
from crisscross.errors import shown as shown_value
from crisscross.files import output_path, output_paths, write_text
from crisscross.inference import formats
from crisscross.inference.prediction import CLASSES_FILE, write_classes, write_png

FORMATS = ("png", "polygons", "coco", "rle", "csv")
PNG = ("png",)
# What all images share in one file, and what each has in a file of its own.
SHARED: Mapping[str, str] = {"coco": "coco.json", "csv": "fractions.csv"}
EACH = ("polygons", "rle")


def check_formats(task: Task, given: Iterable[str], legend: bool = False, big: bool = False) -> tuple[str, ...]:
    """The formats that are wanted, each once, in the order of `FORMATS`.

    Raises:
        CrissCrossError: there is no such format, or it does not go together with the task or the other options.
    """
    wanted = [given] if isinstance(given, str) else list(given)
    if unknown := [name for name in wanted if name not in FORMATS]:
        raise CrissCrossError(f"{shown_value(unknown[0])} is no format; known: {', '.join(FORMATS)}")
    found = tuple(name for name in FORMATS if name in wanted)
    if missing := [name for name in found if name not in task.formats]:
        raise CrissCrossError(
            f"--format {missing[0]} is not available for the task {task.name}; it has {', '.join(task.formats)}"
        )
    if legend and "png" not in found:
        raise CrissCrossError("--legend is drawn into overlays: add png to --format")
    others = [name for name in found if name not in (*PNG, "polygons")]
    if big and (legend or others):
        option = "--legend" if legend else f"--format {others[0]}"
        raise CrissCrossError(
            f"{option} does not go together with --big, which writes labels/, and polygons/ of GeoTIFF"
        )
    return found


def outputs(images: Mapping[Path, Path], out: Path, kinds: Sequence[str], suffix: str = "png") -> list[Path]:
    """The files that images, each with its name, become: `out/KIND/NAME.png`.

    Raises:
        CrissCrossError: a link leads out of the folder.
    """
    return output_paths(out, (f"{kind}/{target}.{suffix}" for target in images.values() for kind in kinds))


def all_outputs(task: Task, images: Mapping[Path, Path], out: Path, chosen: Sequence[str]) -> list[Path]:
    """Every file that `Writer` may write.

    Raises:
        CrissCrossError: a link leads out of the folder.
    """
    pngs = outputs(images, out, task.kinds) if "png" in chosen else []
    documents = outputs(images, out, [kind for kind in EACH if kind in chosen], "json")
    return [*pngs, *documents, *(output_path(out, name) for name in shared_names(task, chosen))]


def shared_names(task: Task, chosen: Sequence[str]) -> list[str]:
    """The files that hold something of all images; `classes.json`, for networks with classes, is the last."""
    listing = [task.listing] * (bool(task.listing) and "png" in chosen)
    return [*listing, *(name for kind, name in SHARED.items() if kind in chosen), CLASSES_FILE]


def shown(task: Task, network: Any, chosen: Sequence[str]) -> list[str]:
    """What lies in the output folder afterwards: folders, then files."""
    kinds = [*(task.kinds if "png" in chosen else ()), *(kind for kind in EACH if kind in chosen)]
    files = [name for name in shared_names(task, chosen) if name != CLASSES_FILE or hasattr(network, "classes")]
    return [*(f"{kind}/" for kind in kinds), *files]


class Writer:
    """Writes the results of one network on several images.

    Args:
        task: of the network.
        network: its classes and colors are written, too.
        out: the folder to write.
        chosen: some of `FORMATS` that the task supports.
        legend: draw names and colors into overlays.
    """

    def __init__(self, task: Task, network: Any, out: Path, chosen: Sequence[str] = PNG, legend: bool = False) -> None:
        self.task, self.network, self.out, self.chosen = task, network, out, chosen
        self.options = {"legend": True} if legend else {}
        self.classes: Sequence[str] = getattr(network, "classes", ())
        self.listed: list[dict[str, Any]] = []
        self.coco: dict[str, list[dict[str, Any]]] = {"images": [], "categories": [], "annotations": []}
        self.rows: list[list[str]] = []
        self.written = False

    def write(self, source: Path, target: Path, image: np.ndarray, result: Any) -> list[Path]:
        """Write the files of one image uint8 [H, W, 3]; its name is `target` without suffix."""
        written = []
        name, images = f"{target.as_posix()}{source.suffix}", {source: target}
        size = {"height": image.shape[0], "width": image.shape[1]}
        if "png" in self.chosen:
            drawn = self.task.draw(self.network, image, result, **self.options)
            written = outputs(images, self.out, self.task.kinds)
            for kind, path in zip(self.task.kinds, written, strict=True):
                write_png(path, drawn[kind])
            if self.task.listing:
                self.listed.append({"file": str(source), **size, self.task.name: self.task.facts(result)})
        documents: dict[str, Callable[[Any], list[dict[str, Any]]]] = {"polygons": self._polygons, "rle": self._rle}
        for kind in EACH:
            if kind in self.chosen:
                (path,) = outputs(images, self.out, [kind], "json")
                write_text(path, json.dumps({"image": name, **size, kind: documents[kind](result)}) + "\n")
                written.append(path)
        if "coco" in self.chosen:
            self._add_coco({"id": len(self.coco["images"]) + 1, "file_name": name, **size}, result)
        if "csv" in self.chosen:
            self.rows.append(formats.csv_row(name, self.task.fractions(result)))
        self.written = True
        return written

    def finish(self) -> None:
        """Write what all images share, if there is any image."""
        if not self.written:
            return
        if self.listed:
            write_text(self.out / self.task.listing, json.dumps(self.listed, indent=1) + "\n")
        if "coco" in self.chosen:
            self.coco["categories"] = self.task.categories(self.network)
            write_text(self.out / SHARED["coco"], json.dumps(self.coco) + "\n")
        if "csv" in self.chosen:
            write_text(self.out / SHARED["csv"], formats.csv_text([["image", *self.classes], *self.rows]))
        if hasattr(self.network, "classes"):
            write_classes(self.out / CLASSES_FILE, self.classes, getattr(self.network, "palette", ()))

    def _polygons(self, result: Any) -> list[dict[str, Any]]:
        return [
            {"class": number, "name": self.classes[number], **facts, "polygon": outer, "holes": holes}
            for number, mask, facts in self.task.masks(result)
            for outer, holes in formats.outlines(mask)
        ]

    def _rle(self, result: Any) -> list[dict[str, Any]]:
        return [
            {"class": number, "name": self.classes[number], **facts, **formats.run_lengths(mask)}
            for number, mask, facts in self.task.masks(result)
        ]

    def _add_coco(self, entry: dict[str, Any], result: Any) -> None:
        self.coco["images"].append(entry)
        numbers = [category["id"] for category in self.task.categories(self.network)]
        for number, mask, facts in self.task.masks(result):
            if mask.any():
                place = len(self.coco["annotations"]) + 1
                made = formats.coco_annotation(mask, place, entry["id"], numbers[number])
                self.coco["annotations"].append(made | {key: facts[key] for key in ("score",) if key in facts})
