"""The service around the filter bank, in this process or in one of its own; without torch.

    python tests/helpers/served.py PORT DELAY KEY=VALUE ...

The keys are those of `Limits`. `DELAY` are seconds that each call of the network takes longer.
"""

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from filter_bank import card, logits
from PIL import Image

from crisscross.inference import Predictor

CARD = replace(card(), palette=((9, 8, 7), (255, 0, 0), (0, 128, 0), (1, 2, 250), (70, 70, 70)))
NAMES = ("labels", "color", "polygons", "rle", "fractions")


def predictor(delay: float = 0.0, calls: list[tuple[int, ...]] | None = None) -> Predictor:
    """The filter bank's; `calls` gets the shapes that the network sees."""

    def logits_of(x: np.ndarray) -> np.ndarray:
        time.sleep(delay)
        if calls is not None:
            calls.append(x.shape)
        return logits(x)

    return Predictor(logits_of, CARD)


def file_of(image: np.ndarray, kind: str = "PNG") -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def labels_of(content: bytes) -> np.ndarray:
    """The pixel values of a PNG."""
    return np.asarray(Image.open(io.BytesIO(content)))


class Served(NamedTuple):
    """A service in a process of its own."""

    port: int
    process: subprocess.Popen[bytes]
    log: Any

    def stop(self, number: int) -> list[dict[str, Any]]:
        """Send a signal, wait for the end; the lines of its log. Its exit code is 0."""
        self.process.send_signal(number)
        assert self.process.wait(60) == 0
        return self.lines()

    def lines(self) -> list[dict[str, Any]]:
        """The lines of its log so far."""
        self.log.seek(0)
        return [json.loads(line) for line in self.log.read().splitlines()]


@contextmanager
def served(folder: Any, delay: float = 0.0, **limits: Any) -> Iterator[Served]:
    """A service on a free port, until the end of the block."""
    words = [sys.executable, __file__, "0", str(delay), *(f"{key}={value!r}" for key, value in limits.items())]
    with (folder / "log.jsonl").open("a+b") as log, subprocess.Popen(words, stdout=-1, stderr=log) as process:
        try:
            line = process.stdout.readline() if process.stdout else b""
            assert line.strip().isdigit(), (folder / "log.jsonl").read_text()
            yield Served(int(line), process, log)
        finally:
            process.kill()


def main() -> None:
    """Serve until a signal comes; the first line of the output is the port."""
    from ast import literal_eval

    from crisscross.service import Limits, create_app, listen, serve

    port, delay, *words = sys.argv[1:]
    limits = Limits(**{key: literal_eval(value) for key, value in (word.split("=", 1) for word in words)})
    listening = listen("127.0.0.1", int(port))
    app = create_app(predictor(float(delay)), limits)
    assert "torch" not in sys.modules
    print(listening.getsockname()[1], flush=True)
    serve(app, listening, limits.timeout)


if __name__ == "__main__":
    main()
