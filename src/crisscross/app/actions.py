"""What the page does with images and videos; without gradio."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from crisscross.app.drawing import explained, fitted, labeled, legend, message, network_name, probabilities
from crisscross.app.networks import Network
from crisscross.data.files.reading import read_image
from crisscross.engine.formats import FORMATS, Writer
from crisscross.errors import CrissCrossError
from crisscross.inference import Prediction
from crisscross.video import VideoResult, predict_video

# Larger images are shown to networks reduced; still larger ones are refused.
PIXELS, MOST_PIXELS = 2**21, 2**26
NO_IMAGE = "choose an image first"


@dataclass(frozen=True)
class Labeled:
    """The image of a session, and what each network says about it.

    Attributes:
        name: of its file, without suffix.
        image: uint8 [H, W, 3].
        predictions: one for each network.
    """

    name: str
    image: np.ndarray
    predictions: tuple[Prediction, ...]


class Actions:
    """What the page does.

    Args:
        networks: at least one.
        folder: for files that are downloaded.
    """

    def __init__(self, networks: Sequence[Network], folder: Path) -> None:
        self.networks, self.folder = networks, folder
        self.lock, self.stopped = Lock(), False

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Networks compute one after the other: to explain one, its gates are changed for a moment."""
        with self.lock:
            self._check_running()
            yield

    def _check_running(self) -> None:
        if self.stopped:
            raise CrissCrossError("the app was stopped")

    def stop(self) -> None:
        """Let no network compute any more, and wait for the one that does; a video ends after its frame."""
        self.stopped = True
        with self.lock:
            pass

    def label(self, path: str, opacity: float) -> tuple[str, Labeled, int, int, list[Any], list[str]]:
        """A message, the labeled image, the pixel in its middle, an image and a legend for each network.

        Raises:
            CrissCrossError: the file is not an image, or too large.
        """
        file = Path(path)
        try:
            image, note = reduced(read_image(file, MOST_PIXELS))
        except CrissCrossError as error:
            # Where the browser's files lie here is of no interest.
            raise CrissCrossError(str(error).replace(str(file), file.name)) from None
        with self._computing():
            found = Labeled(file.stem, image, tuple(network.label(image) for network in self.networks))
        height, width = image.shape[:2]
        at = width // 2, height // 2
        return note, found, *at, self.draw(found, opacity, at), [legend(one) for one in found.predictions]

    def draw(self, found: Labeled, opacity: float, at: tuple[int, int] | None) -> list[Any]:
        """An image for each network: its labels, and a ring around the pixel (x, y)."""
        return [labeled(one, found.image, opacity, at) for one in found.predictions]

    def explain(self, found: Labeled | None, at: tuple[Any, Any]) -> list[str]:
        """For each network HTML about the pixel (x, y): its classes and what attention looks at.

        Raises:
            CrissCrossError: there is no image, or the pixel is none of its.
        """
        if found is None:
            raise CrissCrossError(NO_IMAGE)
        height, width = found.image.shape[:2]
        x, y = at
        if not all(isinstance(one, int) for one in at) or not (0 <= x < width and 0 <= y < height):
            given = f"x = {'?' if x is None else x}, y = {'?' if y is None else y}"
            raise CrissCrossError(f"{given} is no pixel of the image: x is 0 to {width - 1}, y is 0 to {height - 1}")
        with self._computing():
            return [self._explain(network, found.image, (x, y)) for network in self.networks]

    def _explain(self, network: Network, image: np.ndarray, at: tuple[int, int]) -> str:
        whose = network_name(network.name) if len(self.networks) > 1 else ""
        try:
            return whose + explained(network.explain(image, at))
        except CrissCrossError as error:
            reason = str(error)
        return f'{whose}<div class="pixel">{probabilities(at, [("", network.top(image, at))])}{message(reason)}</div>'

    def download(self, found: Labeled | None, formats: Sequence[str]) -> Path:
        """A ZIP file of the masks, as `crisscross predict` writes them; with several networks a folder for each.

        Raises:
            CrissCrossError: there is no image, or no format is chosen.
        """
        if found is None:
            raise CrissCrossError(NO_IMAGE)
        if not formats:
            raise CrissCrossError("choose at least one format to download")
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        inside = folder / "masks"
        for network, one in zip(self.networks, found.predictions, strict=True):
            out = inside / network.name if len(self.networks) > 1 else inside
            writer = Writer(network.task, network.loaded, out, [name for name in FORMATS if name in formats])
            writer.write(Path(f"{found.name}.png"), Path(found.name), found.image, one)
            writer.finish()
        path = Path(shutil.make_archive(str(folder / f"{found.name}-masks"), "zip", inside))
        shutil.rmtree(inside)
        return path

    def label_video(self, path: str | None, name: str, progress: Callable[[int, int], object]) -> tuple[str, Path]:
        """A message, and a video with the labels of the network of this name.

        Args:
            progress: called with the number of frames so far, and of all.

        Raises:
            CrissCrossError: the file is no video that can be read, or PyAV is not installed.
        """
        if path is None:
            raise CrissCrossError("choose a video first")
        network = next(one for one in self.networks if one.name == name)
        file = Path(path)
        out = Path(tempfile.mkdtemp(dir=self.folder)) / f"{file.stem}-labels.mp4"

        def done(result: VideoResult, expected: int) -> None:
            self._check_running()
            progress(result.frames, expected)

        try:
            with self._computing():
                result = predict_video(network.predictor, file, out, done=done)
        except CrissCrossError as error:
            raise CrissCrossError(str(error).replace(str(file), file.name)) from None
        note = f"{result.frames} frames, {result.fps:.1f} a second"
        if result.problems:
            note += f"; {len(result.problems)} parts of the file could not be read: {result.problems[0].text}"
        return note, out


def reduced(image: np.ndarray) -> tuple[np.ndarray, str]:
    """An image of at most `PIXELS` pixels, and a line that says so where that is another one."""
    height, width = image.shape[:2]
    if height * width <= PIXELS:
        return image, ""
    small = fitted(image, max(1, int(width * (PIXELS / (height * width)) ** 0.5)))
    sizes = [f"{one.shape[1]} × {one.shape[0]}" for one in (image, small)]
    return small, f"Reduced to {sizes[1]} pixels from {sizes[0]}; `crisscross predict` labels images at their own size."
