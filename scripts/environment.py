"""Make or refresh the checkout's `.venv`; does nothing, in well under a second, when nothing has changed.

The heavy packages (PyTorch with its CUDA libraries: 6 GB) are installed once for all checkouts, in
`${XDG_CACHE_HOME:-~/.cache}/crisscross-seg/env-<key>`. The key covers what decides about them: the requirements in
pyproject.toml and the Python they are for. `.venv` is a small environment of the checkout's own that sees those
packages through a `.pth` line and has the project itself installed editable.

Two cases go without the shared part, with everything installed into `.venv`: the cache folder cannot be written, or
`.venv` was made by hand (then it is yours: packages are added to it, it is never deleted).

Started by environment.sh, which finds the Python. Only the standard library is used here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NoReturn

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = ROOT / "pyproject.toml"
VENV = ROOT / ".venv"
# In .venv: what it was made from. In a shared environment: written last, so its presence means "complete".
STATE = "crisscross-seg.json"
SHARED_PTH = "crisscross-seg-shared.pth"
EXTRA = "dev"
PROOF = "import torch, torchvision, timm"
# Variables that would send pip or Python somewhere else than the environment it was started from.
MISLEADING = ("PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "__PYVENV_LAUNCHER__")


def say(text: str) -> None:
    print(f"crisscross: {text}", flush=True)


def fail(text: str) -> NoReturn:
    print(f"crisscross: {text}", file=sys.stderr, flush=True)
    sys.exit(1)


def run(*command: str | Path, why: str) -> None:
    """Run a step with its output visible; on failure say which step it was and stop."""
    environment = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    done = subprocess.run([str(part) for part in command], env=environment, stdin=subprocess.DEVNULL, cwd=ROOT)
    if done.returncode:
        fail(f"{why} failed (exit status {done.returncode}, see above); `make` again takes it up from here")


def python_of(environment: Path) -> Path:
    return environment / "bin" / "python"


def abi() -> str:
    """What compiled packages are built for, such as cpython-311-x86_64-linux-gnu."""
    return str(sysconfig.get_config_var("SOABI"))


def runs_as(environment: Path) -> str | None:
    """The abi of an environment's Python, None where it does not start (its base Python was removed, say)."""
    question = "import sysconfig; print(sysconfig.get_config_var('SOABI'))"
    command = [str(python_of(environment)), "-I", "-S", "-c", question]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def requirements(*extras: str) -> list[str]:
    """What extras need, sorted; without extras, everything that building, running and testing the project needs."""
    table = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    project = table["project"]
    wanted = [need for extra in extras or (EXTRA,) for need in project["optional-dependencies"][extra]]
    if not extras:
        wanted += [*table["build-system"]["requires"], *project["dependencies"]]
    return sorted(set(wanted))


def digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def read_state(environment: Path) -> dict[str, str]:
    try:
        state = json.loads((environment / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(environment: Path, **state: str) -> None:
    """Written under another name and moved into place, so that it is there whole or not at all."""
    fresh = environment / f"{STATE}.new"
    fresh.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    fresh.replace(environment / STATE)


@contextlib.contextmanager
def locked(handle: IO[str], waiting: str) -> Iterator[None]:
    """Hold the file's lock; the system releases it when this process ends, however it ends."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(waiting)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        # A file system without locks: better unlocked than not at all.
        pass
    yield


def make_venv(environment: Path, *options: str) -> None:
    # The base interpreter, because the one running this may live in the very folder that is being replaced.
    base = getattr(sys, "_base_executable", None) or sys.executable
    run(base, "-m", "venv", *options, environment, why=f"making {environment}")


def install_requirements(environment: Path) -> None:
    run(python_of(environment), "-m", "pip", "install", *requirements(), why="installing the packages")
    say("checking that torch, torchvision and timm can be imported")
    run(python_of(environment), "-c", PROOF, why="importing the installed packages")


def install_project(environment: Path) -> None:
    say(f"installing this checkout into {environment.name} (editable)")
    options = ("--quiet", "--no-deps", "--no-build-isolation")
    run(python_of(environment), "-m", "pip", "install", *options, "--editable", ROOT, why="installing the checkout")


def shared_path(name: str) -> Path:
    """Where a folder for all checkouts belongs.

    Raises:
        RuntimeError: neither XDG_CACHE_HOME nor a home folder is known.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "")
    if not cache.is_absolute():
        cache = Path.home() / ".cache"
    return cache / "crisscross-seg" / name


def ensure_shared(name: str, build: Callable[[Path], None]) -> Path | None:
    """The complete shared environment of this name, built first if need be; None where the cache cannot hold one."""
    try:
        shared = shared_path(name)
    except RuntimeError as error:
        say(f"no cache folder ({error}): everything goes into .venv")
        return None
    if read_state(shared):
        return shared
    try:
        shared.parent.mkdir(parents=True, exist_ok=True)
        handle = shared.with_name(f"{shared.name}.lock").open("w")
        with handle, locked(handle, f"another make is filling {shared}; waiting for it"):
            if not read_state(shared):
                if shared.exists():
                    say(f"removing {shared}, left unfinished by an earlier run")
                    shutil.rmtree(shared)
                build(shared)
    except OSError as error:
        say(f"cannot use the cache folder ({error}): everything goes into .venv")
        return None
    return shared


def build_shared(shared: Path) -> None:
    say(f"installing the packages into {shared}")
    say("(once for all checkouts; some minutes, 6 GB where PyTorch brings CUDA; pip unpacks without a word)")
    # Built where it stays: scripts inside a virtual environment hold its absolute path, so it cannot be moved.
    make_venv(shared)
    install_requirements(shared)
    write_state(shared, abi=abi(), requirements=" ".join(requirements()))


def fingerprint() -> str:
    """Changes when the project has to be installed into .venv again."""
    return digest(PYPROJECT.read_text(encoding="utf-8"), Path(__file__).read_text(encoding="utf-8"))


def made_by_hand() -> bool:
    return VENV.exists() and any(VENV.iterdir()) and read_state(VENV).get("made by") != "make"


def refresh_own(state: dict[str, str]) -> None:
    """Everything into a `.venv` that a person made."""
    version = runs_as(VENV)
    if version is None:
        fail("the folder .venv holds no working Python; remove it and run `make` again")
    if version != abi():
        fail(f"the .venv here was made by hand for {version}, which is not the Python in use; remove it or set PYTHON")
    if state.get("fingerprint") != fingerprint():
        say("adding what is missing to the .venv you made")
        install_requirements(VENV)
        install_project(VENV)
        write_state(VENV, **{"made by": "hand", "fingerprint": fingerprint()})


def refresh(state: dict[str, str]) -> None:
    """A `.venv` of our own, on top of the shared packages where there are any."""
    # Where the packages went into .venv itself, they stay there.
    alone = state.get("shared") == "" and bool(state.get("fingerprint"))
    shared = None if alone else ensure_shared(f"env-{digest(abi(), *requirements())}", build_shared)
    wanted = {
        "made by": "make",
        "folder": str(ROOT),
        "abi": abi(),
        "shared": str(shared or ""),
        "fingerprint": fingerprint(),
    }
    usable = bool(state) and all(state.get(key) == wanted[key] for key in ("folder", "abi")) and runs_as(VENV) == abi()
    if usable and state == wanted:
        return
    if not (usable and state.get("fingerprint")):
        start_over(VENV)
    # No fingerprint until the end: a run cut short here is known to have been.
    write_state(VENV, **(wanted | {"fingerprint": ""}))
    if shared:
        see_packages_of(shared, VENV)
    else:
        install_requirements(VENV)
    install_project(VENV)
    write_state(VENV, **wanted)


def start_over(environment: Path, *options: str) -> None:
    say(f"making {environment.name} with Python {sys.version.split()[0]}")
    shutil.rmtree(environment, ignore_errors=True)
    environment.mkdir()
    # Said before anything else is in it, so that a folder left half-made is known as ours.
    write_state(environment, **{"made by": "make"})
    make_venv(environment, *options)


def packages_folder(environment: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", vars={"base": str(environment), "platbase": str(environment)}))


def see_packages_of(shared: Path, environment: Path) -> None:
    """Let an environment import what the shared one holds, including what its own .pth files add."""
    line = f"import site; site.addsitedir({str(packages_folder(shared))!r})\n"
    (packages_folder(environment) / SHARED_PTH).write_text(line, encoding="utf-8")


def main() -> None:
    started = time.monotonic()
    # The checkout's lock is on a file that is there anyway.
    with PYPROJECT.open() as handle, locked(handle, "another make is working on .venv; waiting for it"):
        before = read_state(VENV)
        if made_by_hand():
            refresh_own(before)
        else:
            refresh(before)
        if read_state(VENV) != before:
            say(f".venv is ready ({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    main()
