"""What runs a network on a CPU: PyTorch, or a runtime to which it is exported once. `auto` is the fastest exact one.

Files and measurements are kept in the user's cache folder, one folder for each network.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crisscross import __version__, files
from crisscross.config import to_dict
from crisscross.config.documents import read_json
from crisscross.deploy.exporting import check, passport_for
from crisscross.deploy.opening import ExportedPredictor
from crisscross.errors import CrissCrossError, import_extra
from crisscross.hardware import processor
from crisscross.inference import Predictor
from crisscross.layers.modes import device_of
from crisscross.measurement.exported import RUNTIMES, installed_runtimes, write_onnx
from crisscross.measurement.timing import interleave
from crisscross.models import Segmenter
from crisscross.progress import is_shown
from crisscross.speed.rewrite import optimize
from crisscross.terminal import say

TITLES = {"torch": "PyTorch", "optimize": "PyTorch with --optimize"} | {k: one.title for k, one in RUNTIMES.items()}
# Share of equal labels from which a backend counts as exact: float32 that differs by rounding alone.
EXACT = 0.9999
# Less work than this many images, or than this many seconds, is done sooner than `auto` measures.
LEAST_IMAGES, LEAST_SECONDS = 20, 60
ROUNDS = 2
# Networks whose files are kept.
KEPT = 8
FILE, DIGEST, NOTES = "model.onnx", "model.digest", "backends.json"


def check_backend(backend: str) -> None:
    """Refuse an unknown backend, or one that is not installed.

    Raises:
        CrissCrossError: it is.
    """
    known = ("torch", *RUNTIMES, "auto")
    if backend not in known:
        raise CrissCrossError(f"backend must be one of {', '.join(known)}, got {backend!r}")
    if backend in RUNTIMES:
        import_extra(RUNTIMES[backend].package, f"--backend {backend}", RUNTIMES[backend].extra)


def on_backend(
    network: Any, backend: str, images: int | None, sample: Callable[[], np.ndarray]
) -> Segmenter | Predictor:
    """The network, or what labels images as it does but faster; says on standard error what was taken and why.

    Args:
        network: as it was loaded; it stays as it is.
        backend: `onnx`, `openvino` or `auto`; see `check_backend`.
        images: how many are going to be labeled; None for a great many.
        sample: one of them, uint8 [H, W, 3]: labels are compared and times measured on it.

    Raises:
        CrissCrossError: the network cannot be exported, or the backend does not give its labels; with `auto` PyTorch
            takes its place.
    """
    if backend != "auto":
        return _Cached(check(network, "torch", "float32")).checked(backend, sample)
    try:
        checked = check(network, "torch", "float32")
        if (device := device_of(checked)).type != "cpu":
            raise CrissCrossError(f"it computes on {device}")
        found = _Cached(checked)
        chosen, reason = found.fastest(images, sample)
        opened = found.opened(chosen)
    except CrissCrossError as error:
        _say(f"backend: {TITLES['torch']}: {error}")
        return network
    _say(f"backend: {TITLES[chosen]}: {reason}")
    return opened


class _Cached:
    """A network with its exported file and what was measured of it on this machine."""

    def __init__(self, network: Segmenter) -> None:
        self.network, self.passport = network, passport_for(network, "float32")
        self.folder = files.user_cache("backends") / _key(network)
        self.notes: dict[str, Any] = {"conditions": _conditions()}
        with suppress(CrissCrossError):
            stored = read_json(self.folder / NOTES)
            if isinstance(stored, dict) and stored.get("conditions") == self.notes["conditions"]:
                self.notes = stored

    def opened(self, name: str) -> Segmenter | Predictor:
        """What labels images by PyTorch, or by a runtime; exported if it was not yet."""
        if name == "torch":
            return self.network
        if name == "optimize":
            return optimize(self.network)
        path, digest = self.folder / FILE, self.folder / DIGEST
        if not (found := _digest(path)) or found != _text(digest):
            _say("backend: exporting the network, once: takes up to a minute")
            files.write_atomically(path, lambda temporary: write_onnx(self.network, temporary, self.passport))
            files.write_text(digest, _digest(path))
            _forget(self.folder)
        # Of the folders, those go first that were not used for the longest time.
        os.utime(self.folder)
        return ExportedPredictor(RUNTIMES[name].open(path)[0](self.passport.card), self.passport)

    def checked(self, name: str, sample: Callable[[], np.ndarray]) -> Segmenter | Predictor:
        """`opened` by a runtime, after a comparison of labels the first time."""
        found = self.opened(name)
        if name not in self.notes.get("exact", []):
            image = sample()
            equal = _equal(found.predict(image).labels, self.network.predict(image).labels)
            if equal < EXACT:
                raise CrissCrossError(
                    f"--backend {name}: {TITLES[name]} gives {equal:.3%} of the network's labels on the first image; "
                    f"{EXACT:.2%} are needed: use --backend torch"
                )
            self._note(exact=[*self.notes.get("exact", []), name])
        return found

    def fastest(self, images: int | None, sample: Callable[[], np.ndarray]) -> tuple[str, str]:
        """The name of the fastest exact one, and why it is; PyTorch where the work is not worth a measurement."""
        if "fastest" in self.notes:
            return self.notes["fastest"], f"the fastest exact one here ({self._times()}), as measured before"
        if images is not None and images < LEAST_IMAGES:
            return "torch", f"so few images ({images}) are labeled sooner than backends are compared"
        image = sample()
        if images is not None:
            once = interleave({"": partial(self.network.predict, image)}, 1, torch.device("cpu"))[""]
            if once * images < LEAST_SECONDS:
                return "torch", f"about {once * images:.0f} s of work are done sooner than backends are compared"
        missing = self._measure(image)
        why = f"the fastest exact one here ({self._times()})"
        return self.notes["fastest"], "; ".join([why, *missing])

    def _measure(self, image: np.ndarray) -> list[str]:
        """Compare all on an image, and keep the result; returns why some could not take part."""
        _say("backend: comparing what is installed, once")
        installed, missing = installed_runtimes()
        ways = {name: self.opened(name) for name in ("torch", "optimize")}
        for name in installed:
            try:
                ways[name] = self.opened(name)
            except CrissCrossError as error:
                missing.append(str(error))
        labels: dict[str, np.ndarray] = {}

        def label(name: str) -> None:
            labels[name] = ways[name].predict(image).labels

        works = {name: partial(label, name) for name in ways}
        seconds = interleave(works, ROUNDS, torch.device("cpu"))
        exact = [name for name in ways if _equal(labels[name], labels["torch"]) >= EXACT]
        self._note(fastest=min(exact, key=lambda name: seconds[name]), seconds=seconds, exact=exact)
        return missing

    def _times(self) -> str:
        return ", ".join(f"{TITLES[name]} {1000 * seconds:.0f} ms" for name, seconds in self.notes["seconds"].items())

    def _note(self, **facts: Any) -> None:
        self.notes |= facts
        files.write_text(self.folder / NOTES, json.dumps(self.notes, indent=1) + "\n")


def _say(line: str) -> None:
    if is_shown():
        say(line, error=True)


def _equal(labels: np.ndarray, others: np.ndarray) -> float:
    return float((labels == others).mean())


def _key(network: Segmenter) -> str:
    """Differs between networks: their weights, their configuration, and the code that exports them."""
    found = hashlib.blake2b(json.dumps([__version__, to_dict(network.experiment)], sort_keys=True).encode())
    for name, tensor in network.state_dict().items():
        found.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.cpu().contiguous().view(torch.uint8).numpy() if tensor.dim() else repr(tensor).encode())
    return found.hexdigest()[:32]


def _digest(file: Path) -> str:
    """Of the content; empty where the file cannot be read."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "blake2b").hexdigest()[:32]
    except OSError:
        return ""


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _conditions() -> dict[str, Any]:
    """What the order of the backends depends on."""
    versions = {}
    for package in ("torch", *(runtime.package for runtime in RUNTIMES.values())):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {"processor": processor()[0], "threads": torch.get_num_threads(), **versions}


def _forget(newest: Path) -> None:
    """Remove the files of the networks that were not used for the longest time."""
    others = [folder for folder in newest.parent.iterdir() if folder.is_dir() and folder != newest]
    for folder in sorted(others, key=lambda folder: folder.stat().st_mtime)[: max(len(others) + 1 - KEPT, 0)]:
        shutil.rmtree(folder, ignore_errors=True)
