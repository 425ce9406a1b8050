"""Run the tests on the oldest packages that pyproject.toml allows: each `NAME>=X` of it as `NAME==X`.

`make test-oldest` starts it with the oldest Python that the project runs on. The packages (about 6 GB where PyTorch
brings CUDA) go into `.venv-oldest`, which is made again when a bound changes and removed by `make clean`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib

from scripts.environment import (
    PYPROJECT,
    ROOT,
    digest,
    fail,
    make_venv,
    python_of,
    read_state,
    requirements,
    run,
    say,
    write_state,
)

OLDEST = ROOT / ".venv-oldest"


def check_python() -> None:
    """Stop unless this is the oldest Python that the project runs on."""
    oldest = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["requires-python"].removeprefix(">=")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here != oldest:
        fail(f"the oldest packages are tested on Python {oldest}, this is {here}; name one with PYTHON=/path/to/python")


def build(pins: list[str]) -> None:
    """`.venv-oldest` with these packages, and the checkout itself in it."""
    shutil.rmtree(OLDEST, ignore_errors=True)
    say(f"installing into {OLDEST}: {' '.join(pins)}")
    make_venv(OLDEST)
    install = (python_of(OLDEST), "-m", "pip", "install")
    run(*install, *pins, why="installing the oldest packages")
    run(*install, "--no-deps", "--no-build-isolation", "--editable", ROOT, why="installing the checkout")
    write_state(OLDEST, pins=digest(*pins))


def main() -> int:
    check_python()
    pins = [requirement.replace(">=", "==") for requirement in requirements()]
    if read_state(OLDEST).get("pins") != digest(*pins):
        build(pins)
    return subprocess.run([python_of(OLDEST), "-m", "pytest", *sys.argv[1:]], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
