"""`crisscross explain`: what a network attends to, from a pixel as an image, or over a data set as a page."""

import argparse
import json
import re
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.cli.options import add_device, add_force, add_network, positive
from crisscross.errors import CrissCrossError, shown
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.api.networks import Wanted
    from crisscross.explanation import Explanation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Show what criss-cross attention looks at from a pixel of an image and what it changes there, or, with --data "
        "and --report, what it does over a whole data set."
    )
    add_network(parser)
    # What starts like a negative number is no option: a pixel left of the image is told as one.
    parser._negative_number_matcher = re.compile(r"-\d")
    parser.add_argument(
        "image",
        type=Path,
        nargs="*",
        metavar="IMAGE",
        help="an image; for a network for clips also its frames in order",
    )
    parser.add_argument("--at", action="append", metavar="X,Y", help="a pixel, from the top left; may be given again")
    parser.add_argument("--out", type=Path, default=Path("explanation"), metavar="DIR", help="default explanation")
    parser.add_argument("--arrays", action="store_true", help="also write all weights as .npz")
    group = parser.add_argument_group("the whole network")
    group.add_argument("--data", metavar="DIR", help="a data set with the network's classes")
    group.add_argument("--report", type=Path, metavar="DIR", help="where to write explanation.html and .json")
    group.add_argument("--split", metavar="NAME", help="the split to look at (default: as in evaluate)")
    group.add_argument("--name", metavar="NAME", help="the data set's layout (default: that of training)")
    group.add_argument(
        "--images", type=positive, default=50, metavar="N", help="look at N images of the split at most (default 50)"
    )
    add_device(parser)
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from crisscross.api.networks import wanted

    whole = arguments.data is not None or arguments.report is not None
    if whole == (bool(arguments.image) or arguments.at is not None):
        raise CrissCrossError("explain either pixels (IMAGE --at X,Y) or a whole network (--data DIR --report DIR)")
    names = ("device", "weights", "offline", "trust")
    source = wanted(arguments.network, **{name: getattr(arguments, name) for name in names})
    if source.exported:
        raise CrissCrossError(
            f"{arguments.network}: an exported network ({source.exported}) cannot be explained, its weights are "
            "needed: give the run, weights file or name that it was exported from"
        )
    return _explain_network(arguments, source) if whole else _explain_pixels(arguments, source)


def _explain_pixels(arguments: argparse.Namespace, source: "Wanted") -> int:
    from crisscross.data.files.reading import read_image
    from crisscross.explanation import explain, figure
    from crisscross.explanation.pixel import check_attends
    from crisscross.files import claim, write_atomically
    from crisscross.layers.devices import find_device

    if not arguments.image or arguments.at is None:
        raise CrissCrossError("IMAGE and --at X,Y belong together: which pixel of which image is to be explained?")
    points = [_point(text) for text in arguments.at]
    stems = [arguments.out / f"{arguments.image[0].stem}-{x}-{y}" for x, y in points]
    suffixes = (".png", ".npz") if arguments.arrays else (".png",)
    targets = [stem.with_name(stem.name + suffix) for stem in stems for suffix in suffixes]
    claim(targets, [*source.files, *arguments.image], arguments.force)
    device = find_device(arguments.device)
    # Before weights are downloaded, as everything that may be wrong without them.
    frames = [read_image(path) for path in arguments.image]
    network = source.load(device, {})
    check_attends(network, str(arguments.network))
    found = [explain(network, frames if len(frames) > 1 else frames[0], point) for point in points]
    for one, stem in zip(found, stems, strict=True):
        path = stem.with_name(f"{stem.name}.png")
        write_atomically(path, partial(figure(one).save, format="PNG"))
        if arguments.arrays:
            write_atomically(stem.with_name(f"{stem.name}.npz"), partial(_save_arrays, one))
        _tell(one, path)
    return 0


def _explain_network(arguments: argparse.Namespace, source: "Wanted") -> int:
    from crisscross.api.evaluating import open_split
    from crisscross.config.parse import SEGMENTATION
    from crisscross.engine.semantic.evaluate import check_classes
    from crisscross.explanation import survey_network
    from crisscross.explanation.page import render
    from crisscross.explanation.pixel import check_attends
    from crisscross.files import claim, write_text

    if arguments.data is None or arguments.report is None:
        raise CrissCrossError("--data DIR and --report DIR belong together: what to look at, and where to write")
    page, numbers = arguments.report / "explanation.html", arguments.report / "explanation.json"
    claim([page, numbers], source.files, arguments.force)
    task = source.task()
    if task.name != SEGMENTATION:
        raise CrissCrossError(
            f"{arguments.network}: --report needs a network that labels pixels, this one is of the task {task.name}; "
            "explain single images with IMAGE --at X,Y"
        )
    given = (arguments.data, arguments.split, arguments.name)
    network, data, split = open_split(source, task, *given, source.find_device())
    check_attends(network, str(arguments.network))
    check_classes(network.predictor, data)
    found = survey_network(network, data, split, arguments.images)
    facts = {"network": str(arguments.network), "data": str(arguments.data), **found.facts()}
    summary = (
        f"{found.images} of {found.available} images of the split {split} of {data.root.name}, each shown as a whole."
    )
    words = ["crisscross", "explain", str(arguments.network), "--data", str(arguments.data)]
    words += ["--split", split, "--images", str(arguments.images), "--report", str(arguments.report)]
    html = render(found, Path(arguments.network).name, summary, shlex.join(words))
    write_text(numbers, json.dumps(facts, indent=1) + "\n")
    write_text(page, html)
    say(
        f"mIoU {_percent(facts['miou'])}, with attention switched off {_percent(facts['miou_switched_off'])}; "
        f"{facts['changed']:.1%} of the labels change"
    )
    for layer in found.layers:
        before, after = layer.sides or (0.0, 0.0)
        entropy = ", ".join(f"{one.mean_entropy() or 0:.2f}" for one in layer.passes)
        say(f"  {layer.name}: gate {layer.gate:.3f}, entropy {entropy}, receptive field {before:.0f} -> {after:.0f}")
    say(f"report: {page}")
    return 0


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _save_arrays(found: "Explanation", path: Path) -> None:
    import numpy as np

    # Of a name without the suffix NumPy would make another.
    with path.open("wb") as file:
        np.savez_compressed(file, **found.arrays())  # type: ignore[arg-type,unused-ignore]


def _tell(found: "Explanation", path: Path) -> None:
    say(f"{found.at[0]},{found.at[1]}: {path}")
    if found.probabilities is not None:
        for title, without in (("with attention", False), ("without", True)):
            classes = ", ".join(f"{name} {value:.1%}" for name, value in found.top(3, without))
            say(f"  {title:<15} {classes}")
        say(f"  attention changes {found.changed:.1%} of the image's labels")
    for layer in found.layers:
        passes = "1 pass" if len(layer.passes) == 1 else f"{len(layer.passes)} passes"
        say(f"  {layer.name}: gate {layer.gate:.3f}, {passes}, mean distance {layer.distance:.1f} cells")


def _point(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"\s*-?[0-9]{1,9}\s*,\s*-?[0-9]{1,9}\s*", text):
        raise CrissCrossError(f"--at: {shown(text)} is no pixel; write X,Y as in --at 320,240")
    x, y = map(int, text.split(","))
    return x, y
