"""`crisscross doctor`: is everything here that crisscross needs, does it work, and what to do where it does not."""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from crisscross import __version__
from crisscross.cli import FULL
from crisscross.errors import CrissCrossError
from crisscross.files import user_cache, with_home
from crisscross.hardware import BFLOAT16, main_memory, processor
from crisscross.measurement.self_test import MARK
from crisscross.terminal import say

DISTRIBUTION = "crisscross-seg"
HERE = "in a checkout of crisscross"
# Modules of other names than their distributions.
MODULES = {"opencv-python-headless": "cv2", "pillow": "PIL", "pyyaml": "yaml"}
# What decides about speed; bfloat16 is fast where one of the last is there.
FEATURES = ("avx2", "avx512f", "avx512_vnni", "amx_tile", "neon", "sve", *BFLOAT16)
VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "CRISSCROSS_OFFLINE", "CRISSCROSS_CACHE"),
    *("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "TORCH_HOME", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH"),
)
# What runs exported files where PyTorch is not installed.
RUNTIMES = ("onnxruntime", "openvino")
PYTORCH = "https://pytorch.org/get-started/locally"
# More than any step takes, on a cold disk, too.
SECONDS = 300
GIB = 2**30


@dataclass
class Findings:
    """Problems, each with what to do, and notes on what works but could be better."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command, which takes nothing."""
    parser.description = (
        "Check this installation: versions, devices, optional packages, cache folders and a short computation. The "
        "output is plain text for a bug report; your home folder is written as ~. Exit code 1 if there is a problem."
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command: 0 if all is well, 1 if there is a problem."""
    findings = Findings()
    for part in (_system, _packages, _extras, _folders, _self_test):
        _show(part, findings)
    for title, found in (("Notes", findings.notes), ("Problems", findings.problems or ["none"])):
        if found:
            say("", title, *(f"  {_without_home(line)}" for line in found))
    return 1 if findings.problems else 0


def _show(part: Callable[[Findings], Iterator[str]], findings: Findings) -> None:
    """Print the lines of a part; whatever goes wrong in it is a problem, and the next part follows."""
    title = part.__name__.strip("_").replace("_", "-").capitalize()
    indent = "" if part is _system else "  "
    if indent:
        say("", title)
    try:
        for line in part(findings):
            say(indent + _without_home(line))
    except Exception as error:
        findings.problems.append(f"{title}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _without_home(text: str) -> str:
    home = os.path.expanduser("~")
    return text if len(home) < 2 else re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)


def _system(findings: Findings) -> Iterator[str]:
    place = Path(__file__).parent.parent
    yield f"crisscross {__version__}{_commit(place.parent.parent)} in {place}"
    yield f"Python {platform.python_version()} ({platform.python_implementation()}), {sys.executable}"
    yield f"{platform.platform()}, {platform.machine()}"
    name, flags = processor()
    memory = f", {main_memory() / GIB:.0f} GiB" if main_memory() else ""
    features = " ".join(flag for flag in FEATURES if flag in flags)
    yield f"{name}, {os.cpu_count()} cores{memory}{': ' if features else ''}{features}"
    if given := [f"{name}={os.environ[name]}" for name in VARIABLES if os.environ.get(name)]:
        yield "set: " + " ".join(given)


def _commit(root: Path) -> str:
    """Commit of a checkout, with `-dirty` where files were changed; nothing for an installed package."""
    if not (root / ".git").exists():
        return ""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return f" ({done.stdout.strip()})"


def _requirements() -> Iterator[tuple[str, str, str]]:
    """(package, least version, extra) of everything that the package's metadata names; the extra of most is ""."""
    try:
        texts = requires(DISTRIBUTION) or ()
    except PackageNotFoundError:
        return
    for text in texts:
        found = re.match(r"([\w.-]+)(?:>=([\w.]+))?", text)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", text)
        if found:
            yield found[1].replace("_", "-"), found[2] or "", extra[1] if extra else ""


def _installed(package: str, least: str) -> tuple[str, str]:
    """The version of a package, and what is wrong with it: "", "missing" or "older than ..."."""
    try:
        found = version(package)
    except PackageNotFoundError:
        return "", "missing"
    return found, f"older than {least}" if _numbers(found) < _numbers(least) else ""


def _numbers(text: str) -> list[int]:
    """The numbers that a version begins with, such as [2, 14, 1] of `2.14.1+cpu`; without zeros at the end."""
    numbers = [int(part) for part in (re.match(r"[\d.]*", text) or [""])[0].split(".") if part]
    while numbers and not numbers[-1]:
        numbers.pop()
    return numbers


def _without_pytorch() -> list[str]:
    """The runtimes of exported files that are installed, where PyTorch is not."""
    return [] if _installed("torch", "")[0] else [name for name in RUNTIMES if _installed(name, "")[0]]


def _packages(findings: Findings) -> Iterator[str]:
    try:
        found = version(DISTRIBUTION)
    except PackageNotFoundError:
        findings.problems.append(f"{DISTRIBUTION} is not installed in this Python: run `pip install .` {HERE}")
        return
    if found != __version__:
        old = f"{DISTRIBUTION} was installed as {found}, this is {__version__}"
        findings.problems.append(f"{old}: run `pip install .` {HERE}")
    if slim := _without_pytorch():
        findings.notes.append(
            f"without PyTorch, `predict` and `serve` run exported files; for all else run `pip install .` {HERE}"
        )
    for package, least, extra in _requirements():
        if not extra:
            found, wrong = _installed(package, least)
            yield f"{package} {found}{' ' if found and wrong else ''}{wrong}"
            if wrong and not (slim and wrong == "missing" and package in FULL.values()):
                findings.problems.append(f"{package} {wrong}: run `pip install '{package}>={least}'`")


def _extras(findings: Findings) -> Iterator[str]:
    extras: dict[str, list[tuple[str, str, str]]] = {}
    for package, least, extra in _requirements():
        if extra not in ("", "dev"):
            extras.setdefault(extra, []).append((package, *_installed(package, least)))
    for extra, packages in extras.items():
        listed = ", ".join(" ".join(filter(None, words)) for words in packages)
        install = f"; run `pip install '.[{extra}]'` {HERE}" if any(wrong for *_, wrong in packages) else ""
        yield f"{extra}: {listed}{install}"


def _folders(findings: Findings) -> Iterator[str]:
    for what, variable, find in (
        ("masks, images", "XDG_CACHE_HOME", lambda: user_cache("")),
        ("checkpoints", "CRISSCROSS_CACHE", _checkpoints),
        ("Hugging Face", "HF_HUB_CACHE", _hugging_face),
        ("PyTorch", "TORCH_HOME", lambda: with_home(_cache_of("torch", "TORCH_HOME")) / "hub"),
        ("temporary files", "TMPDIR", lambda: Path(tempfile.gettempdir())),
    ):
        folder = None
        try:
            folder = find()
            parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
            # A file without a name: nothing is left, whatever happens.
            with tempfile.TemporaryFile(dir=parent):
                free = shutil.disk_usage(parent).free / GIB
        except (CrissCrossError, OSError) as error:
            reason = f"{error.strerror or error}: {folder}" if isinstance(error, OSError) else str(error)
            yield f"{what}: not writable ({reason})"
            findings.problems.append(f"folder for {what}: {reason}: make it writable, or set {variable}")
            continue
        yield f"{what}: {folder}, writable, {free:.0f} GiB free"
        if free < 1:
            findings.notes.append(f"{folder}: {free:.1f} GiB free; the weights of one network take up to 0.5 GiB")
    if os.path.isdir("/dev/shm") and (shared := shutil.disk_usage("/dev/shm").total / GIB) < 1:
        findings.notes.append(
            f"shared memory is {shared:.2f} GiB: worker processes may end with a bus error; use --workers 0, or start "
            "the container with --shm-size=2g"
        )


def _checkpoints() -> Path:
    return with_home(chosen) if (chosen := os.environ.get("CRISSCROSS_CACHE")) else user_cache("checkpoints")


def _cache_of(package: str, variable: str) -> str:
    return os.environ.get(variable) or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", package)


def _hugging_face() -> Path:
    return with_home(os.environ.get("HF_HUB_CACHE") or os.path.join(_cache_of("huggingface", "HF_HOME"), "hub"))


def _self_test(findings: Findings) -> Iterator[str]:
    # An installation that names nothing needs PyTorch all the same.
    there = [package for package, _, extra in _requirements() if not extra and _installed(package, "")[0]] or ["torch"]
    there += (runtimes := _without_pytorch())
    if "torch" not in there and not runtimes:
        yield "left out: torch is missing"
        return
    # In the order in which one breaks the next.
    there.sort(key=lambda package: (package != "torch", package != "torchvision"))
    steps = _steps([MODULES.get(package, package.replace("-", "_")) for package in there], findings)
    failed = [step for step, facts in steps.items() if "error" in facts]
    # What is broken breaks what needs it in the same way.
    first = {steps[step]["error"]: step for step in reversed(failed)}
    causes = [step for step in failed if step in first.values()]
    findings.problems += [f"{step}: {steps[step]['error']}: {_cure(step)}" for step in causes]
    found = {step: facts["found"] for step, facts in steps.items() if "found" in facts}
    yield f"packages that can be imported: {sum(step.startswith('import ') for step in found)} of {len(there)}"
    if "devices" in found:
        yield from _devices(found["devices"], findings)
    for step, value in found.items():
        if step.startswith("attention"):
            yield f"{step}: {value:.1g} off its definition"
    if times := found.get("network"):
        yield f"camvid-light: loaded in {times['load']:.1f} s, an image of 128 x 96 labeled in {times['predict']:.1f} s"
    for step in failed:
        cause = first[steps[step]["error"]]
        yield f"{step}: failed" + (f", as {cause}" if cause != step else "")


def _steps(modules: list[str], findings: Findings) -> dict[str, dict[str, Any]]:
    """What the steps of the self-test found, or their errors; an end amid a step is an error of that step."""
    command = [sys.executable, "-P", "-m", "crisscross.measurement.self_test", *modules]
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    end = f"no end after {SECONDS} seconds"
    try:
        done = subprocess.run(command, timeout=SECONDS, env=os.environ | {"HF_HUB_OFFLINE": "1"}, **options)
        output, said, end = done.stdout, done.stderr, f"the process ended with exit code {done.returncode}"
    except subprocess.TimeoutExpired as error:
        output, said = error.stdout or b"", error.stderr or b""
    steps: dict[str, dict[str, Any]] = {}
    for line in output.decode(errors="replace").splitlines():
        if line.startswith(MARK):
            facts = json.loads(line.removeprefix(MARK))
            steps[facts["step"]] = facts
    last = (said.decode(errors="replace").strip().splitlines() or [""])[-1][:200]
    for facts in steps.values() or [steps.setdefault("start", {})]:
        if not facts.keys() & {"found", "error"}:
            facts["error"] = f"{end}{f' ({last})' if last else ''}"
    return steps


def _devices(found: dict[str, Any], findings: Findings) -> Iterator[str]:
    yield f"PyTorch is built for {found['built_for'] or 'CPUs alone'}; {found['threads']} threads, {found['vectors']}"
    yield from (f"GPU: {gpu}" for gpu in found["gpus"])
    if found["mps"]:
        yield "GPU: Apple's, by MPS"
    elif not found["gpus"]:
        yield "GPU: none that PyTorch can use"
    if not found["gpus"] and (shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists()):
        why = "does not find a GPU: see `nvidia-smi`, CUDA_VISIBLE_DEVICES and the age of the driver"
        cure = why if found["built_for"] else f"is built for CPUs alone: install another build, see {PYTORCH}"
        findings.notes.append(f"this machine has NVIDIA's driver, but PyTorch {cure}")


def _cure(step: str) -> str:
    """What to do where a step of the self-test failed."""
    _, _, module = step.partition("import ")
    if module in ("torch", "torchvision"):
        return f"install both together: `pip install --force-reinstall torch torchvision`, or as {PYTORCH} says"
    if module == "cv2":
        return "`pip uninstall opencv-python opencv-contrib-python opencv-python-headless`, then install the last again"
    if module:
        package = next((package for package, name in MODULES.items() if name == module), module)
        return f"`pip install --force-reinstall {package}`"
    if step.endswith("cuda"):
        return "the GPU or its driver may be broken; commands with --cpu do without it; please report this text"
    return "please report this text"
