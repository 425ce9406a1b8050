"""`crisscross export`: write a network for another runtime, and check the file against it."""

import argparse
import os
from pathlib import Path

from crisscross.cli.options import add_force, add_network, positive
from crisscross.errors import CrissCrossError
from crisscross.terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Write a network as model.onnx, model.xml (OpenVINO) or model.pt2 (torch.export), and compare the file with "
        "the network: parity.json. Exit code 1: it differs by more than its precision allows."
    )
    add_network(parser)
    parser.add_argument("--to", required=True, choices=("onnx", "openvino", "torch"), help="the runtime")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder to write")
    parser.add_argument(
        "--precision",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="of the file (default float32); int8 is calibrated with images",
    )
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="compare and calibrate with these: a data set of the network's classes, or a folder of images (default: "
        "drawn scenes)",
    )
    parser.add_argument(
        "--count", type=positive, default=24, metavar="N", help="the most images to compare, and to calibrate with"
    )
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command. Returns 1 where the file does not agree with the network."""
    import torch

    from crisscross import tasks
    from crisscross.api.networks import wanted
    from crisscross.cli.tables import print_table
    from crisscross.data.dataset import existing_folder
    from crisscross.deploy.exporting import CARD, FILES, REPORT, export
    from crisscross.files import claim
    from crisscross.layers.modes import lay_out
    from crisscross.progress import Progress

    task = tasks.task_of_network(arguments.network, arguments.weights, arguments.trust)
    tasks.refuse(task, {}, "export", arguments.network)
    _check_folder(arguments.out)
    if arguments.images is not None:
        existing_folder(arguments.images)
    names = (*FILES[arguments.to], CARD, REPORT)
    claim(
        [arguments.out / name for name in names],
        wanted(arguments.network, weights=arguments.weights).files,
        arguments.force,
    )
    options = {"weights": arguments.weights, "offline": arguments.offline, "trust": arguments.trust}
    network = tasks.load(arguments.network, **options)
    # As `crisscross predict` runs it, for a fair comparison of times.
    lay_out(network, torch.channels_last)
    license = _license(arguments)
    with Progress("export", 0) as progress:

        def step(what: str, finished: int, total: int) -> None:
            if not total:
                progress.say("exporting: takes up to a minute")
            progress.total = total
            progress.update(finished, step=what)

        exported = export(
            network,
            arguments.out,
            arguments.to,
            arguments.precision,
            images=arguments.images,
            count=arguments.count,
            license=license,
            step=step,
        )
    print_table(exported.parity.rows())
    say(*exported.parity.lines())
    size = sum((arguments.out / name).stat().st_size for name in FILES[arguments.to])
    say(f"{exported.path}: {size / 2**20:.1f} MB, {arguments.precision}, parity checked: {arguments.out / REPORT}")
    for problem in exported.parity.problems:
        say(f"crisscross: {exported.path}: differs from the network: {problem}", error=True)
    return 0 if exported.parity.passed else 1


def _check_folder(out: Path) -> None:
    """Refuse what cannot become the folder to write before the work of a minute."""
    path = out.absolute()
    nearest = next(found for found in (path, *path.parents) if found.exists())
    if not nearest.is_dir():
        raise CrissCrossError(f"--out {out}: {nearest} is a file; name a folder")
    if not os.access(nearest, os.W_OK):
        raise CrissCrossError(f"--out {out}: {nearest} is not writable; name another folder")


def _license(arguments: argparse.Namespace) -> str:
    """The license of the weights, "" where nothing says it."""
    from crisscross.checkpoints.license import license_of
    from crisscross.checkpoints.loading import find_file
    from crisscross.checkpoints.native import read_facts

    path = find_file(arguments.weights or arguments.network, arguments.offline)
    return license_of(path, read_facts(path) if path.suffix == ".safetensors" else {}) or ""
