"""`crisscross predict NETWORK clip.mp4`: the part about video files."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.errors import CrissCrossError
from crisscross.files import output_path
from crisscross.terminal import say

if TYPE_CHECKING:
    import numpy as np

    from crisscross.api.networks import Wanted
    from crisscross.models import Segmenter
    from crisscross.video import VideoResult


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is for videos alone."""
    parser.add_argument(
        "--view", choices=("overlay", "color"), help="videos: labels over the frames (default), or only labels"
    )


def parted(
    arguments: argparse.Namespace, kinds: Sequence[str] = (), refused: str = ""
) -> tuple[list[str], dict[Path, Path]]:
    """Images and folders that hold some, and videos with the file that each becomes.

    Folders are searched through for videos, too, as `find_images` does for images. What cannot be labeled as asked is
    refused where it was named, and left out with a line where it was found in a folder.

    Args:
        arguments: of the command.
        kinds: folders of outputs.
        refused: why the task takes no videos, "" if it does.

    Raises:
        CrissCrossError: a missing video, two that would become one file, or options that do not go together.
    """
    from crisscross.data.files.folders import images_in
    from crisscross.engine.predict import names_apart, without_outputs
    from crisscross.video.reading import is_video_file

    out: Path = arguments.out
    named = [Path(path) for path in arguments.paths if is_video_file(Path(path)) and not Path(path).is_dir()]
    images = [path for path in arguments.paths if Path(path) not in named]
    found = {video: Path(video.stem) for video in named}
    folders: dict[str, list[Path]] = {path: _videos_in(Path(path), out, kinds) for path in images}
    inside = [video for videos in folders.values() for video in videos if video not in found]
    if inside and (reason := _unable(arguments, refused)):
        more = f" and {len(inside) - 1} more" if len(inside) > 1 else ""
        say(f"crisscross: {inside[0]}{more}: left out: {reason}", error=True)
    else:
        found |= {video: video.relative_to(path) for path, videos in folders.items() for video in videos}
        # Without videos, that there are no images either is said where they are searched.
        images = [
            path
            for path, videos in folders.items()
            if not videos or without_outputs(images_in(Path(path), deep=True), Path(path), out, kinds)
        ]
    if not found:
        if arguments.view is not None:
            raise CrissCrossError("--view is for video files; of images all views are written")
        return images, {}
    if arguments.big:
        raise CrissCrossError(f"{named[0]}: --big is for images; frames of a video are labeled whole")
    if missing := next((video for video in named if not video.exists()), None):
        raise CrissCrossError(f"{missing}: no such file or folder")
    if _is_video_target(out, len(found) + len(images)):
        return images, dict.fromkeys(found, out)
    names = {video: name.with_suffix("") for video, name in found.items()}
    targets = {video: output_path(out, f"{name}.mp4") for video, name in names_apart(names).items()}
    _check_outside(folders, out, targets)
    return images, targets


def _videos_in(folder: Path, out: Path, kinds: Sequence[str]) -> list[Path]:
    """Videos of a folder and those below it; `.ts` is left out, which is also the suffix of programs."""
    from crisscross.data.files.folders import files_in
    from crisscross.engine.predict import without_outputs
    from crisscross.video.reading import VIDEO_SUFFIXES

    if not folder.is_dir():
        return []
    suffixes = [suffix for suffix in VIDEO_SUFFIXES if suffix != ".ts"]
    return without_outputs(files_in(folder, *suffixes), folder, out, kinds)


def _unable(arguments: argparse.Namespace, refused: str) -> str:
    """Why videos cannot be labeled, "" if they can."""
    from crisscross.video.reading import pyav

    if refused or arguments.big:
        return f"video {refused}" if refused else "--big is for images"
    try:
        pyav()
    except CrissCrossError as error:
        return str(error)
    return ""


def _is_video_target(out: Path, inputs: int) -> bool:
    """Whether `--out` is the file of the only video, and not a folder.

    Raises:
        CrissCrossError: it cannot be either.
    """
    from crisscross.video.writing import OUTPUT_SUFFIXES, known_suffixes

    is_file = out.suffix.lower() in OUTPUT_SUFFIXES and not out.is_dir()
    if is_file and inputs > 1:
        raise CrissCrossError(f"--out {out} is one video file, but there are {inputs} inputs; name a folder")
    if not is_file and out.suffix and not out.is_dir():
        raise CrissCrossError(
            f"--out {out}: cannot write a {out.suffix} video; known: {known_suffixes()}; a folder gets NAME.mp4"
        )
    if out.is_file() and not is_file:
        raise CrissCrossError(f"--out {out}: is a file; name a folder or a video file ({known_suffixes()})")
    return is_file


def _check_outside(folders: Iterable[str], out: Path, targets: Mapping[Path, Path]) -> None:
    """Refuse to write a video where the next search would find it. An `out` below the folder is not searched."""
    for folder in (Path(path).resolve() for path in folders if Path(path).is_dir()):
        for video, target in targets.items():
            if folder in target.resolve().parents and folder not in out.resolve().parents:
                raise CrissCrossError(f"{video}: {target} would lie among the inputs; choose another --out")


def run(arguments: argparse.Namespace, videos: dict[Path, Path], network: "Wanted") -> int:
    """Label the videos. A bad one is reported, and the others go on."""
    from crisscross.video.reading import VideoReader, pyav

    pyav()
    if len(videos) == 1:
        # What is wrong with the only video shall be known before weights are fetched.
        with VideoReader(next(iter(videos))):
            pass
    loaded, code = network.load(network.find_device(), {}), 0
    segmenter = network.on_backend(loaded, None, lambda: _sample(videos))
    for source, target in videos.items():
        try:
            with network.computing(segmenter):
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


def _sample(videos: Iterable[Path]) -> "np.ndarray":
    """The first frame of the first video that can be read."""
    from crisscross.api.networks import SCENE
    from crisscross.data.scenes import draw_scene
    from crisscross.video import VideoReader

    for path in videos:
        with suppress(CrissCrossError), VideoReader(path) as reader:
            return next(iter(reader)).image
    return draw_scene(0, *SCENE)[0]


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

        result = predict_video(segmenter, source, target, arguments.view or "overlay", arguments.tta, show)
        tell(result.problems)
        if progress.done != progress.total:
            # The number was an estimate.
            progress.total = result.frames
            progress.update(result.frames)
    return result
