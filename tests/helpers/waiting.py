"""Tests wait for states, not for seconds: a busy machine must not make them fail."""

import subprocess
import time
from collections.abc import Callable

# Seconds after which a test gives up: far more than anything here takes, so that only what hangs meets it.
HANGS = 1800.0


def wait_until(
    condition: Callable[[], object], process: subprocess.Popen | None = None, give_up_after: float = HANGS
) -> None:
    """Return when `condition()` is true; fail when `process` has ended before, or after `give_up_after` seconds."""
    end = time.monotonic() + give_up_after
    while not condition():
        assert process is None or process.poll() is None or condition(), process.communicate()
        assert time.monotonic() < end, "this has hung"
        time.sleep(0.01)
