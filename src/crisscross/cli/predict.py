"""`crisscross predict`: label images and videos; writes index, color and overlay PNGs, and videos."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.cli import predict_video
from crisscross.cli.options import (
    add_card,
    add_force,
    add_network,
    add_precision,
    computing_in,
    fraction,
    load_network,
    network_files,
    positive,
)
from crisscross.errors import CrissCrossError
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.engine.task import Task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Label images (as index, color and overlay PNGs) and videos (as NAME.mp4)."
    add_network(parser)
    add_card(parser)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="images, folders of images, or video files")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("predictions"),
        metavar="DIR",
        help="the folder to write (default predictions); for a single video also a file",
    )
    predict_video.add_options(parser)
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    parser.add_argument(
        "--optimize", action="store_true", help="rewrite the network for speed first, which helps most on a CPU"
    )
    parser.add_argument(
        "--tta", action="store_true", help="predict at several scales, with flips: slower, slightly better"
    )
    parser.add_argument(
        "--big",
        action="store_true",
        help="label images of any size (also .npy files) block by block; writes only labels/",
    )
    parser.add_argument(
        "--block",
        type=positive,
        metavar="N",
        help="with --big: side of a block in pixels (default 1024); a quarter of it overlaps the next",
    )
    parser.add_argument(
        "--score", type=fraction, metavar="S", help="instance segmentation: the lowest score to keep (default 0.5)"
    )
    add_force(parser)
    add_precision(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from crisscross import tasks
    from crisscross.engine.predict import find_images, outputs
    from crisscross.files import claim

    images, videos = predict_video.parted(arguments)
    task = tasks.task_of_network(arguments.network, arguments.weights, arguments.trust)
    tasks.refuse(task, {**vars(arguments), "video": bool(videos)})
    if arguments.block and not arguments.big:
        raise CrissCrossError("--block is for --big, which labels an image block by block")
    found = find_images(images, arguments.out, task.kinds)
    targets = outputs(found, arguments.out, _kinds(arguments, task))
    targets += [arguments.out / task.listing] if task.listing else []
    claim([*videos.values(), *targets], [*network_files(arguments), *videos, *found], arguments.force)
    codes = []
    if videos:
        codes.append(predict_video.run(arguments, videos))
    if images:
        codes.append(_run_images(arguments, task, images, len(found)))
    return max(codes)


def _kinds(arguments: argparse.Namespace, task: "Task") -> tuple[str, ...]:
    """The folders of images that are written."""
    return task.kinds[:1] if arguments.big else task.kinds


def _run_images(arguments: argparse.Namespace, task: "Task", paths: list[str], count: int) -> int:
    from crisscross.engine.predict import Labeled, predict_files
    from crisscross.engine.semantic.predict import predict_big_files
    from crisscross.inference import BLOCK
    from crisscross.progress import Progress

    network = load_network(arguments)
    finished = 0
    with Progress("predict", count) as progress:

        def show(labeled: Labeled) -> None:
            nonlocal finished
            finished += 1
            if labeled.error:
                progress.say(f"crisscross: {labeled.error}")
            progress.update(finished)

        def show_block(done: int, total: int) -> None:
            progress.update(finished, block=f"{done}/{total}")

        given = {name: getattr(arguments, name) for name in ("tta", "score")}
        options = {name: value for name, value in given.items() if value is not None and value is not False}
        with computing_in(arguments, network):
            if arguments.big:
                block = arguments.block or BLOCK
                what = (network, paths, arguments.out, block, block // 4)
                results = predict_big_files(*what, show, show_block, arguments.tta)
            else:
                results = predict_files(task, network, paths, arguments.out, show, **options)
    failed = sum(result.error is not None for result in results)
    if failed < len(results):
        written = [f"{kind}/" for kind in _kinds(arguments, task)] + [task.listing] * bool(task.listing)
        say(f"predicted {len(results) - failed} of {len(results)}: {arguments.out} ({', '.join(written)})")
    if failed:
        say(f"crisscross: {failed} of {len(results)} could not be read, see above", error=True)
    return 2 if failed else 0
