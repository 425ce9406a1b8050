"""`crisscross predict NETWORK clip.mp4`: the part about video files."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.cli.options import computing_in, load_network
from crisscross.errors import CrissCrossError
from crisscross.files import output_path
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.models import Segmenter
    from crisscross.video import VideoResult


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is for videos alone."""
    parser.add_argument(
        "--view", choices=("overlay", "color"), help="videos: labels over the frames (default), or only labels"
    )


def parted(arguments: argparse.Namespace) -> tuple[list[str], dict[Path, Path]]:
    """Images and folders, and videos with the file that each becomes.

    Raises:
        CrissCrossError: a missing video, two that would become one file, or options that do not go together.
    """
    from crisscross.video.reading import is_video_file
    from crisscross.video.writing import OUTPUT_SUFFIXES, known_suffixes

    videos = [Path(path) for path in arguments.paths if is_video_file(Path(path)) and not Path(path).is_dir()]
    images = [path for path in arguments.paths if Path(path) not in videos]
    out: Path = arguments.out
    if not videos:
        if arguments.view is not None:
            raise CrissCrossError("--view is for video files; of images all views are written")
        return images, {}
    if arguments.big:
        raise CrissCrossError(f"{videos[0]}: --big is for images; frames of a video are labeled whole")
    is_file = out.suffix.lower() in OUTPUT_SUFFIXES and not out.is_dir()
    if is_file and len(arguments.paths) > 1:
        raise CrissCrossError(
            f"--out {out} is one video file, but there are {len(arguments.paths)} inputs; name a folder"
        )
    if not is_file and out.suffix and not out.is_dir():
        raise CrissCrossError(
            f"--out {out}: cannot write a {out.suffix} video; known: {known_suffixes()}; a folder gets NAME.mp4"
        )
    if out.is_file() and not is_file:
        raise CrissCrossError(f"--out {out}: is a file; name a folder or a video file ({known_suffixes()})")
    targets: dict[Path, Path] = {}
    for video in videos:
        if not video.exists():
            raise CrissCrossError(f"{video}: no such file or folder")
        target = out if is_file else output_path(out, f"{video.stem}.mp4")
        taken = [other for other, its in targets.items() if its == target and other != video]
        if taken:
            raise CrissCrossError(f"{taken[0]} and {video} would both be written as {target}; predict them apart")
        targets[video] = target
    return images, targets


def run(arguments: argparse.Namespace, videos: dict[Path, Path]) -> int:
    """Label the videos. A bad one is reported, and the others go on."""
    from crisscross.video.reading import VideoReader, pyav

    pyav()
    if len(videos) == 1:
        # What is wrong with the only video shall be known before weights are fetched.
        with VideoReader(next(iter(videos))):
            pass
    segmenter, code = load_network(arguments), 0
    for source, target in videos.items():
        try:
            result = _label(segmenter, source, target, arguments)
        except CrissCrossError as error:
            if len(videos) == 1:
                raise
            say(f"crisscross: {error}", error=True)
            code = 2
            continue
        say(
            f"{result.written}: {result.frames} frames, {result.seconds:.2f} s of video in {result.elapsed:.1f} s: "
            f"{result.fps:.2f} frames/s, {result.realtime:.2f} x real time"
        )
        if result.problems:
            say(f"crisscross: {source}: not all of it could be read, see above", error=True)
            code = 2
    return code


def _label(segmenter: "Segmenter", source: Path, target: Path, arguments: argparse.Namespace) -> "VideoResult":
    from crisscross.progress import Progress
    from crisscross.video import Problem, predict_video

    said = 0
    with Progress(source.name, 0) as progress:

        def tell(problems: tuple[Problem, ...]) -> None:
            nonlocal said
            for problem in problems[said:]:
                when = "" if problem.time is None else f" at {problem.time:.3f} s"
                progress.say(f"crisscross: {source}{when}: {problem.text}")
            said = len(problems)

        def show(result: "VideoResult", expected: int) -> None:
            tell(result.problems)
            progress.total = expected
            progress.update(result.frames, rate=f"{result.fps:.2f} frames/s ({result.realtime:.2f} x real time)")

        with computing_in(arguments, segmenter):
            result = predict_video(segmenter, source, target, arguments.view or "overlay", arguments.tta, show)
        tell(result.problems)
        if progress.done != progress.total:
            # The number was an estimate.
            progress.total = result.frames
            progress.update(result.frames)
    return result
