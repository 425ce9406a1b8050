"""`python -m benchmarks evaluate`: where the time of an evaluation goes."""

import argparse
from typing import TYPE_CHECKING

from benchmarks.commands.options import choose_device
from crisscross.cli.options import add_trust, parse_size, positive
from crisscross.cli.tables import print_table
from crisscross.errors import CrissCrossError
from crisscross.terminal import say

if TYPE_CHECKING:
    from benchmarks.compare.evaluate import Field, Times


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Measure where the time of an evaluation goes, and labels and counts beside plain code."
    parser.epilog = "Compare ratios: they come from pieces that take turns in one process."
    parser.add_argument("network", nargs="?", default="camvid-light", help="recipe, run or file (default camvid-light)")
    add_trust(parser)
    parser.add_argument("--size", default="1024x2048", metavar="HxW", help="of the images (default 1024x2048)")
    parser.add_argument("--classes", type=positive, default=19, metavar="N", help="of made-up logits (default 19)")
    parser.add_argument("--images", type=positive, default=2, metavar="N", help="drawn scenes (default 2)")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="turns of each piece (default 5)")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="CPU threads (default 1)")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    height, width = parse_size(arguments.size, least=32)
    size = f"{height}x{width}"
    if arguments.classes > 255:
        raise CrissCrossError(f"--classes must be at most 255, got {arguments.classes}")
    import torch

    from benchmarks.compare.evaluate import measure
    from benchmarks.compare.results import environment
    from crisscross.measurement.network import conditions
    from crisscross.progress import Progress

    device = choose_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    say(conditions(environment(device, torch.float32)))
    what = (arguments.network, height, width, arguments.classes, arguments.images, arguments.rounds)
    with Progress(size, 15 * (arguments.rounds + 1)) as progress:
        times = measure(*what, device, lambda: progress.update(progress.done + 1), arguments.trust)
        if progress.done < progress.total:
            # Slow pieces take fewer turns.
            progress.update(progress.total)
    show(times, f"drawn street scenes of {size} (images: {arguments.images})")
    return 0


def show(times: "Times", of: str) -> None:
    """Print the pieces, the ratios, the goals and whether labels changed."""
    from benchmarks.compare.evaluate import GOAL, STRETCH

    say("", f"milliseconds per image, {of}")
    shared = {"decode": times.decode, "resize, normalize": times.preprocess, "network": times.network}
    print_table([["", "ms"], *([name, _ms(value)] for name, value in shared.items())])
    for field in times.fields:
        say("", f"{field.name}: logits {' x '.join(map(str, field.coarse))}")
        print_table(_field_table(field))
        say(
            f"{field.differing} of {field.pixels} labels differ from plain code's, "
            f"{field.ties} of them ties to float32 rounding"
        )
        verdict = ", ".join(
            f"{name} {goal:g}x {'reached' if field.ratio >= goal else 'not reached'}"
            for name, goal in (("goal", GOAL), ("stretch", STRETCH))
        )
        say(f"labels and count {field.ratio:.2f} times faster than plain code: {verdict}")


def _field_table(field: "Field") -> list[list[str]]:
    rows = [("upsample, argmax", field.labels, field.plain_labels), ("count", field.count, field.plain_count)]
    rows.append(("both", field.labels + field.count, field.plain_labels + field.plain_count))
    cells = [[name, _ms(ours), _ms(plain), f"{plain / ours:.1f}"] for name, ours, plain in rows]
    return [["", "ours, ms", "plain, ms", "ratio"], *cells]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"
