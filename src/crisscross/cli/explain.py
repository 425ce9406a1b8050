"""`crisscross explain`: what a network attends to from a pixel, as images and in words."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.cli.options import add_device, add_force, add_network
from crisscross.errors import CrissCrossError, shown
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.explanation import Explanation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Show what criss-cross attention looks at from a pixel, and what it changes there."
    add_network(parser)
    parser.add_argument("image", type=Path, metavar="IMAGE")
    parser.add_argument(
        "--at", action="append", required=True, metavar="X,Y", help="a pixel, from the top left; may be given again"
    )
    parser.add_argument("--out", type=Path, default=Path("explanation"), metavar="DIR", help="default explanation")
    parser.add_argument("--arrays", action="store_true", help="also write all weights as .npz")
    add_device(parser)
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from crisscross.api.networks import wanted
    from crisscross.explanation import explain, figure
    from crisscross.files import claim, write_atomically
    from crisscross.layers.devices import find_device

    points = [_point(text) for text in arguments.at]
    stems = [arguments.out / f"{arguments.image.stem}-{x}-{y}" for x, y in points]
    suffixes = (".png", ".npz") if arguments.arrays else (".png",)
    targets = [stem.with_name(stem.name + suffix) for stem in stems for suffix in suffixes]
    names = ("device", "weights", "offline", "trust")
    source = wanted(arguments.network, **{name: getattr(arguments, name) for name in names})
    claim(targets, [*source.files, arguments.image], arguments.force)
    network = source.load(find_device(arguments.device), {})
    for point, stem in zip(points, stems, strict=True):
        found = explain(network, arguments.image, point)
        path = stem.with_name(f"{stem.name}.png")
        write_atomically(path, partial(figure(found).save, format="PNG"))
        if arguments.arrays:
            write_atomically(stem.with_name(f"{stem.name}.npz"), partial(_save_arrays, found))
        _tell(found, path)
    return 0


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
    x, _, y = text.partition(",")
    if not (x.strip().isdecimal() and y.strip().isdecimal()):
        raise CrissCrossError(f"--at: {shown(text)} is no pixel; write X,Y as in --at 320,240")
    return int(x), int(y)
