"""`crisscross predict`: label images and videos; writes PNGs or other formats, and videos."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.cli import predict_formats, predict_video
from crisscross.cli.options import (
    add_force,
    add_network,
    add_precision,
    best_device,
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
    parser.description = (
        "Label images (as index, color and overlay PNGs, polygons, COCO's JSON ...) and videos (as NAME.mp4)."
    )
    add_network(parser)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="images, videos, or folders of them")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("predictions"),
        metavar="DIR",
        help="the folder to write (default predictions); for a single video also a file",
    )
    predict_formats.add_options(parser)
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
    parser.add_argument(
        "--resume", action="store_true", help="go on where an earlier run stopped: label the images that lack an output"
    )
    add_force(parser)
    add_precision(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from crisscross import tasks
    from crisscross.engine.bulk import share
    from crisscross.engine.formats import all_outputs, outputs
    from crisscross.engine.predict import check_apart, find_images, unfinished
    from crisscross.files import claim
    from crisscross.inference.prediction import CLASSES_FILE

    task = tasks.task_of_network(arguments.network, arguments.weights, arguments.trust)
    images, videos = predict_video.parted(arguments, task.kinds, task.refuses.get("video", ""))
    tasks.refuse(task, {**vars(arguments), "video": bool(videos)})
    if arguments.block and not arguments.big:
        raise CrissCrossError("--block is for --big, which labels an image block by block")
    formats = predict_formats.chosen_formats(arguments, task, bool(images))
    part = share()
    _check_part(arguments, task, formats, part.processes, bool(videos))

    def outputs_of(chosen: Mapping[Path, Path]) -> list[Path]:
        if arguments.big:
            return [*outputs(chosen, arguments.out, _kinds(arguments, task)), arguments.out / CLASSES_FILE]
        return all_outputs(task, chosen, arguments.out, formats)

    def choose(found: Mapping[Path, Path]) -> dict[Path, Path]:
        mine = part.of(found)
        return unfinished(mine, lambda one: outputs_of(one)[:-1]) if arguments.resume else mine

    everything = find_images(images, arguments.out, task.kinds)
    found = choose(everything)
    targets = outputs_of(found) if found else []
    if part.rank:
        # `classes.json` is the first process's.
        targets = targets[:-1]
    claim([*videos.values(), *targets], [*network_files(arguments), *videos, *everything], arguments.force)
    if not arguments.force:
        check_apart(images, arguments.out, task.kinds)
    codes = []
    if videos:
        codes.append(predict_video.run(arguments, videos))
    if images:
        if arguments.resume or part.processes > 1:
            say(f"{len(found)} of {len(everything)} images to label{part.title}")
        if found:
            codes.append(_run_images(arguments, task, images, len(found), formats, choose))
    return max(codes, default=0)


def _check_part(
    arguments: argparse.Namespace, task: "Task", formats: Sequence[str], processes: int, videos: bool
) -> None:
    """Refuse what is not made image by image, where a run does not label all of them."""
    from crisscross.engine.formats import shared_names

    how = "--resume" if arguments.resume else f"the work of {processes} processes"
    if not arguments.resume and processes == 1:
        return
    if videos:
        raise CrissCrossError(f"{how} is for images; label videos by themselves")
    if not arguments.big and (names := shared_names(task, formats)[:-1]):
        raise CrissCrossError(
            f"{how} is for files of single images; {names[0]} holds all of them: choose other formats by --format"
        )


def _kinds(arguments: argparse.Namespace, task: "Task") -> tuple[str, ...]:
    """The folders of images that are written."""
    return task.kinds[:1] if arguments.big else task.kinds


def _run_images(
    arguments: argparse.Namespace,
    task: "Task",
    paths: list[str],
    count: int,
    formats: Sequence[str],
    choose: Callable[[Mapping[Path, Path]], dict[Path, Path]],
) -> int:
    from crisscross.engine.bulk import share
    from crisscross.engine.formats import shown
    from crisscross.engine.predict import Labeled, predict_files
    from crisscross.engine.semantic.predict import predict_big_files
    from crisscross.inference import BLOCK
    from crisscross.inference.prediction import CLASSES_FILE
    from crisscross.progress import Progress

    part = share()
    network = load_network(arguments, part.device(best_device(arguments.cpu)))
    finished = 0
    with Progress("predict", count) as progress:

        def show(labeled: Labeled) -> None:
            nonlocal finished
            finished += 1
            if labeled.error:
                progress.say(f"crisscross: {labeled.error}")
            elif labeled.summary:
                progress.say(f"{labeled.source}: {labeled.summary}", error=False)
            progress.update(finished)

        def show_block(done: int, total: int) -> None:
            progress.update(finished, block=f"{done}/{total}")

        given = {name: getattr(arguments, name) for name in ("tta", "score")}
        options = {name: value for name, value in given.items() if value is not None and value is not False}
        with computing_in(arguments, network):
            if arguments.big:
                block = arguments.block or BLOCK
                what = (network, paths, arguments.out, block, block // 4)
                results = predict_big_files(*what, show, show_block, arguments.tta, choose, part.first)
            else:
                how = (formats, arguments.legend, choose, part.first)
                results = predict_files(task, network, paths, arguments.out, show, *how, **options)
    failed = sum(result.error is not None for result in results)
    if failed < len(results):
        big = [*(f"{kind}/" for kind in _kinds(arguments, task)), CLASSES_FILE]
        written = big if arguments.big else shown(task, network, formats)
        say(f"predicted {len(results) - failed} of {len(results)}: {arguments.out} ({', '.join(written)})")
    if failed:
        say(f"crisscross: {failed} of {len(results)} could not be read, see above", error=True)
    return 2 if failed else 0
