"""`run.json`: data, versions, hardware and options of a run, to repeat or compare it."""

import json
import os
import platform
import shlex
import subprocess
import sys
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from crisscross import __version__
from crisscross.config import to_dict, to_yaml
from crisscross.config.documents import read_json
from crisscross.engine.task import AnyExperiment, Data
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.files import write_text
from crisscross.hardware import processor

RECORD = "run.json"
PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "safetensors")


def write_record(
    folder: Path,
    experiment: AnyExperiment,
    data: Data,
    machine: dict[str, Any],
    start: int,
) -> None:
    """Write `experiment.yaml`, and `run.json`: experiment, data, and an entry for each start of the run.

    An entry holds the iteration that it began with, the time, the command, the seed, versions, hardware, the options
    of the machine, and the state of the git repository that the command was given in, if there is one.

    Raises:
        CrissCrossError: a file cannot be written.
    """
    before = read_record(folder).get("starts", []) if start else []
    splits = {name: len(images) for name, images in data.splits.items()}
    facts = {
        "experiment": to_dict(experiment),
        "data": {"name": data.name, "root": str(data.root), "images": splits},
        "starts": [*before, _start(experiment, machine, start)],
    }
    write_text(folder / RECORD, json.dumps(facts, indent=1) + "\n")
    write_text(folder / "experiment.yaml", to_yaml(experiment))


def last_start(folder: Path) -> dict[str, Any]:
    """Where the data of a run lie and the options of the machine, as `run.json` has them of its last start.

    What is missing or of another type is left out.
    """
    record = read_record(folder)
    if not record or not record["starts"]:
        return {}
    machine, data = record["starts"][-1].get("machine"), record.get("data")
    found = {
        **(machine if isinstance(machine, dict) else {}),
        **({"device": "cpu"} if isinstance(machine, dict) and machine.get("cpu") is True else {}),
        "data": data.get("root") if isinstance(data, dict) else None,
    }
    kinds = {"data": str, "workers": int, "device": str, "track": list, "compile": bool, "cache": str, "shard": bool}
    kinds["per_class"] = bool
    return {name: found[name] for name, kind in kinds.items() if isinstance(found.get(name), kind)}


def read_record(folder: Path) -> dict[str, Any]:
    """What `write_record` wrote; nothing where it is missing, and with a warning where it is damaged."""
    path = folder / RECORD
    if not path.exists():
        return {}
    try:
        facts = read_json(path)
        _check(facts)
    except (CrissCrossError, TypeError, KeyError) as error:
        said = str(error) if isinstance(error, CrissCrossError) else f"{path}: not the record of a run"
        warnings.warn(f"{said}; it is left out", CrissCrossWarning, 2)
        return {}
    return facts


def _check(facts: Any) -> None:
    """Raise TypeError or KeyError where the entries of `starts` are not what `_start` writes."""
    for start in facts["starts"]:
        git = start["git"] or {"commit": "", "changed": False}
        kinds = ((start["versions"], dict), (start["hardware"], dict), (git["commit"], str), (git["changed"], bool))
        if any(not isinstance(value, kind) for value, kind in kinds):
            raise TypeError


def _start(experiment: AnyExperiment, machine: dict[str, Any], start: int) -> dict[str, Any]:
    return {
        "iteration": start,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": shlex.join(sys.orig_argv),
        "seed": experiment.train.seed,
        "versions": versions(),
        "hardware": hardware(),
        "machine": machine,
        "git": git_state(Path()),
    }


def versions() -> dict[str, str]:
    """Versions of this package, Python and of the packages that training depends on."""
    found = {"crisscross": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Processor, threads, processes and device of this training."""
    state = PartialState()
    device = torch.cuda.get_device_name(state.device) if state.device.type == "cuda" else str(state.device)
    return {
        "system": platform.platform(),
        "processor": processor()[0],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": state.num_processes,
        "device": device,
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the repository around `folder` and whether its files differ from it; None without one."""
    commit, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None or changes is None else {"commit": commit, "changed": bool(changes)}


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
