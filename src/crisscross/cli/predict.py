"""`crisscross predict`: label pictures; writes index, colour and overlay PNGs."""

import argparse
import sys
from pathlib import Path


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser("predict", help="label your pictures", description=__doc__)
    parser.add_argument("weights", metavar="RUN|FILE|NAME", help="a run folder, a weights file or a zoo name")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="pictures or folders")
    parser.add_argument("--out", type=Path, default=Path("predictions"), metavar="DIR", help="default: predictions")
    parser.add_argument("--cpu", action="store_true", help="do not use an accelerator")
    parser.add_argument("--optimize", action="store_true", help="rewrite the network for speed first, on a CPU most")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from crisscross.engine.predict import Labelled, find_pictures, predict_files
    from crisscross.progress import Progress

    pictures = find_pictures(arguments.paths, arguments.out)
    import torch

    from crisscross.checkpoints import load
    from crisscross.rewrite import optimize

    device = "cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu"
    segmenter = load(arguments.weights, device=device).to(memory_format=torch.channels_last)
    if arguments.optimize:
        segmenter = optimize(segmenter)
    finished = 0
    with Progress("predict", len(pictures)) as progress:

        def show(labelled: Labelled) -> None:
            nonlocal finished
            finished += 1
            if labelled.error:
                progress.say(f"crisscross: {labelled.error}")
            progress.update(finished)

        results = predict_files(segmenter, arguments.paths, arguments.out, show)
    failed = sum(result.error is not None for result in results)
    if failed < len(results):
        print(f"labelled {len(results) - failed} of {len(results)}: {arguments.out} (labels/, colour/, overlay/)")
    if failed:
        print(f"crisscross: {failed} of {len(results)} could not be read, see above", file=sys.stderr)
    return 2 if failed else 0
