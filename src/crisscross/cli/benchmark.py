"""`crisscross benchmark`: time and memory of a network on this machine."""

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.cli.options import add_device, add_force, add_network, network_files, parse_size, positive
from crisscross.cli.tables import print_table
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.deploy.samples import Samples
    from crisscross.measurement.network import NetworkRow
    from crisscross.models import Segmenter

MIB = 2**20
# Of the labels: float32 that differs by rounding alone, and what may pass for the network all the same.
EXACT, CLOSE = 0.9999, 0.995


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Time and memory of a network on one image: as it is and optimized, in each precision, with each attention "
        "backend that is available; on a CPU also exported, by ONNX Runtime and OpenVINO. Says which way to use."
    )
    parser.epilog = "Compare the speed-ups rather than the times: all rows take turns in one process."
    add_network(parser)
    parser.add_argument(
        "--size", default="512x1024", metavar="HxW", help="size of the image, height x width (default 512x1024)"
    )
    parser.add_argument(
        "--rounds",
        type=positive,
        default=5,
        metavar="N",
        help="measurements of each row (default 5; at most 3 of rows that take more than a second)",
    )
    add_device(parser)
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile")
    parser.add_argument(
        "--int8", action="store_true", help="also measure int8 of ONNX Runtime and OpenVINO; calibrate it with --data"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="compare labels on these images, and their mIoU: a data set of the network's classes, or a folder of "
        "images (default: one drawn scene)",
    )
    parser.add_argument(
        "--count", type=positive, default=8, metavar="N", help="the most images of --data (default %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all results as JSON")
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from crisscross import tasks
    from crisscross.data.dataset import existing_folder
    from crisscross.files import claim, write_text

    height, width = parse_size(arguments.size, least=32)
    task = tasks.task_of_network(arguments.network, arguments.weights, arguments.trust)
    tasks.refuse(task, {}, "benchmark", arguments.network)
    if arguments.data is not None:
        existing_folder(arguments.data)
    if arguments.json:
        claim([arguments.json], network_files(arguments), arguments.force)

    import torch

    from crisscross import zoo
    from crisscross.layers.devices import find_device
    from crisscross.measurement.network import conditions, environment, network_of

    device = torch.device(find_device(arguments.device))
    source = {"weights": arguments.weights, "offline": arguments.offline}
    network = network_of(arguments.network, arguments.trust, **source).to(device)
    about = environment(device)
    say(conditions(about))
    if arguments.network in zoo.RECIPES and not (arguments.weights or zoo.shipped_weights(arguments.network)):
        say(f"{arguments.network} has no weights here: random ones")
    if scale := network.experiment.preprocess.scale:
        say(f"the network sees every image at {scale[1]}x{scale[0]}: preprocess.scale")
    rows, reasons, compared = _measure(arguments, network, (height, width))
    say("", f"{arguments.network}, an image of {height}x{width}, medians of {arguments.rounds} rounds")
    if compared:
        say(f"labels and mIoU of {len(compared.check)} images ({compared.source})")
    print_table(table(rows))
    say(*(f"not available: {reason}" for reason in reasons), advice(rows))
    if arguments.json:
        found = {"about": about, "network": arguments.network, "height": height, "width": width}
        found |= {"rows": [vars(row) for row in rows], "not_available": reasons, "advice": advice(rows)}
        write_text(arguments.json, json.dumps(found, indent=1) + "\n")
    return 0


def _measure(
    arguments: argparse.Namespace, network: "Segmenter", size: tuple[int, int]
) -> "tuple[list[NetworkRow], list[str], Samples | None]":
    """The rows, why others are missing, and the images of `--data` on which labels were compared."""
    import torch

    from crisscross.data.scenes import draw_scene
    from crisscross.deploy.exporting import passport_for
    from crisscross.deploy.samples import samples_of
    from crisscross.hardware import emulates
    from crisscross.layers.modes import device_of
    from crisscross.measurement.exported import exported_variants
    from crisscross.measurement.network import ExportedVariant, Variant, measure, variants_of
    from crisscross.progress import Progress

    passport = passport_for(network, "float32")
    samples = samples_of(arguments.data, passport, arguments.count) if arguments.data or arguments.int8 else None
    compared = samples if arguments.data else None
    image = torch.from_numpy(draw_scene(0, *size)[0]).permute(2, 0, 1)
    entries: list[Variant | ExportedVariant] = [*variants_of(network, arguments.compile)]
    missing = ["ONNX Runtime and OpenVINO are measured on a CPU alone: add --device cpu"]
    with tempfile.TemporaryDirectory() as folder:
        if device_of(network).type == "cpu":
            with Progress("export", 0) as progress:
                progress.say("exporting: takes up to a minute")
                exported, missing = exported_variants(network, Path(folder), samples if arguments.int8 else None)
            entries += exported
            if emulates("bf16"):
                missing.append("bf16: this processor has no instructions for it, PyTorch would emulate it")
        with Progress("x".join(map(str, size)), len(entries) * (arguments.rounds + 3)) as progress:
            rows, reasons = measure(
                entries, image, arguments.rounds, lambda: progress.update(progress.done + 1), compared
            )
            progress.update(progress.total)
    return rows, reasons + missing, compared


def table(rows: "list[NetworkRow]") -> list[list[str]]:
    """A head and one row for each measurement; speed-ups are relative to the first."""
    found = [["", "precision", "ms an image", "speed-up", "MiB an image", "MiB of weights", "same labels"]]
    for row in rows:
        times = [f"{1000 * row.seconds:.1f}", f"{rows[0].seconds / row.seconds:.2f}"]
        peak = "-" if row.peak_bytes is None else f"{row.peak_bytes / MIB:.1f}"
        shares = [f"{row.same_labels:.3%}", *([] if row.miou is None else [f"{100 * row.miou:.2f}"])]
        found.append([row.variant, row.precision, *times, peak, f"{row.weight_bytes / MIB:.1f}", *shares])
    if rows[0].miou is not None:
        found[0].append("mIoU")
    return found


def advice(rows: "list[NetworkRow]") -> str:
    """Which row to use: the fastest exact one and, where it is faster, the fastest that keeps most labels."""
    exact = min(
        (row for row in rows if row.precision == "fp32" and row.same_labels >= EXACT), key=lambda row: row.seconds
    )
    close = min((row for row in rows if row.same_labels >= CLOSE), key=lambda row: row.seconds)

    def shown(row: "NetworkRow", than: str = "") -> str:
        return f"{row.variant} in {row.precision} ({rows[0].seconds / row.seconds:.2f} times as fast{than}, "

    text = f"use: {shown(exact, f' as {rows[0].variant}')}exact)"
    return text if close is exact else f"{text}, or {shown(close)}{close.same_labels:.2%} of the labels)"
