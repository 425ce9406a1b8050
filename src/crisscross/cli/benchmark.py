"""`crisscross benchmark`: time and memory of a network on this machine."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.cli.options import add_device, add_force, add_network, network_files, parse_size, positive
from crisscross.cli.tables import print_table
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.measurement.network import NetworkRow

MIB = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Time and memory of a network on one image: as it is and optimized, in each precision, with each attention "
        "backend that is available."
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
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all results as JSON")
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from crisscross import tasks
    from crisscross.files import claim, write_text

    height, width = parse_size(arguments.size, least=32)
    task = tasks.task_of_network(arguments.network, arguments.weights, arguments.trust)
    tasks.refuse(task, {}, "benchmark", arguments.network)
    if arguments.json:
        claim([arguments.json], network_files(arguments), arguments.force)

    import torch

    from crisscross import zoo
    from crisscross.data.scenes import draw_scene
    from crisscross.layers.devices import find_device
    from crisscross.measurement.network import conditions, environment, measure, network_of, variants_of
    from crisscross.progress import Progress

    device = torch.device(find_device(arguments.device))
    source = {"weights": arguments.weights, "offline": arguments.offline}
    network = network_of(arguments.network, arguments.trust, **source).to(device)
    about = environment(device)
    say(conditions(about))
    if arguments.network in zoo.RECIPES and not (arguments.weights or zoo.shipped_weights(arguments.network)):
        say(f"{arguments.network} has no weights here: random ones")
    if scale := network.experiment.preprocess.scale:
        say(f"the network sees every image at {scale[1]}x{scale[0]}: preprocess.scale")
    image = torch.from_numpy(draw_scene(0, height, width)[0]).permute(2, 0, 1)
    entries = variants_of(network, arguments.compile)
    with Progress(f"{height}x{width}", len(entries) * (arguments.rounds + 3)) as progress:
        rows, reasons = measure(entries, image, arguments.rounds, lambda: progress.update(progress.done + 1))
        progress.update(progress.total)
    say("", f"{arguments.network}, an image of {height}x{width}, medians of {arguments.rounds} rounds")
    print_table(table(rows))
    say(*(f"not available: {reason}" for reason in reasons))
    if arguments.json:
        found = {"about": about, "network": arguments.network, "height": height, "width": width}
        found |= {"rows": [vars(row) for row in rows], "not_available": reasons}
        write_text(arguments.json, json.dumps(found, indent=1) + "\n")
    return 0


def table(rows: "list[NetworkRow]") -> list[list[str]]:
    """A head and one row for each measurement; speed-ups are relative to the first."""
    found = [["", "precision", "ms an image", "speed-up", "MiB an image", "MiB of weights", "same labels"]]
    for row in rows:
        times = [f"{1000 * row.seconds:.1f}", f"{rows[0].seconds / row.seconds:.2f}"]
        sizes = [f"{row.peak_bytes / MIB:.1f}", f"{row.weight_bytes / MIB:.1f}"]
        found.append([row.variant, row.precision, *times, *sizes, f"{row.same_labels:.3%}"])
    return found
