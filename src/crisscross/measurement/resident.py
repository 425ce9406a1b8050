"""Memory that an exported file takes to label an image, in a process of its own: runtimes allocate by themselves.

`python -m crisscross.measurement.resident FILE PRECISION HEIGHT WIDTH` prints the bytes. It imports no torch.
"""

import ctypes
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from crisscross.data.scenes import draw_scene
from crisscross.deploy.opening import RUNTIMES, ExportedPredictor
from crisscross.deploy.passport import passport_of
from crisscross.deploy.runtimes import open_openvino
from crisscross.terminal import say

# Seconds between two looks at the memory.
PAUSE = 0.001


def peak_of_file(path: Path, precision: str, height: int, width: int) -> int | None:
    """Bytes that labeling a drawn image takes at most, beside what the process holds when the file is open.

    None where the system does not say what a process holds, or the process fails.
    """
    command = [sys.executable, "-m", "crisscross.measurement.resident", str(path), precision, str(height), str(width)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = done.stdout.strip()
    return int(text) if done.returncode == 0 and text.isdecimal() else None


def peak_resident(work: Callable[[], object]) -> int:
    """Bytes by which the memory of this process grows at most while `work` runs, watched by a thread.

    Raises:
        OSError: the system does not say what a process holds.
    """
    gc.collect()
    with suppress(OSError, AttributeError):
        # What was freed goes back to the system: otherwise `work` would take it unseen.
        ctypes.CDLL(None).malloc_trim(0)
    before = most = _resident()
    finished = threading.Event()

    def watch() -> None:
        nonlocal most
        while not finished.wait(PAUSE):
            most = max(most, _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        held = work()
        most = max(most, _resident())
        del held
    finally:
        finished.set()
        watcher.join()
    return most - before


def _resident() -> int:
    """Bytes in main memory that belong to this process, on Linux."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(words: list[str]) -> None:
    """Print the bytes for a file."""
    path, precision, size = Path(words[0]), words[1], (int(words[2]), int(words[3]))
    if path.suffix == ".xml":
        opened, text = open_openvino(path, "bf16" if precision == "bf16" else "")
    else:
        opened, text = RUNTIMES[path.suffix].open(path)
    passport = passport_of(text, str(path))
    predictor, image = ExportedPredictor(opened(passport.card), passport), draw_scene(0, *size)[0]
    say(peak_resident(lambda: predictor.predict(image)))


if __name__ == "__main__":
    main(sys.argv[1:])
