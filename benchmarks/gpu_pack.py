"""What travels to the GPU machine: images, masks and backbone weights, packed into few files, and unpacked there."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import lzma
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(os.environ.get("CRISSCROSS_ROOT") or Path(__file__).resolve().parents[1])
# Ignored by git; prepared here, read there.
CARRIED = ROOT / ".gpu"
WORK = Path(os.environ.get("GPU_WORK") or Path(tempfile.gettempdir()) / "crisscross-gpu")
LIMIT = 64 * 2**20
# What an archive adds to a file.
EACH = 2**10


def prepare(arguments: argparse.Namespace) -> int:
    """Fill `.gpu`: images as they are (recoded losslessly where jpegtran is at hand), masks and weights packed."""
    import numpy as np
    from PIL import Image

    shutil.rmtree(CARRIED, ignore_errors=True)
    CARRIED.mkdir(parents=True)
    names, masks, images = [], [], []
    for split in ("train", "test"):
        for image in sorted((arguments.data / split).iterdir())[: arguments.images]:
            images.append(_shrunk(image))
            names.append([split, image.name, len(images[-1])])
            masks.append(np.asarray(Image.open(arguments.data / f"{split}annot" / f"{image.stem}.png")))
    stacked = np.stack(masks).astype(np.uint8)
    # Few files: each costs its share of an archive.
    (CARRIED / "images.bin").write_bytes(b"".join(images))
    (CARRIED / "masks.xz").write_bytes(lzma.compress(stacked.tobytes()))
    (CARRIED / "camvid.json").write_text(json.dumps({"shape": stacked.shape, "names": names}))
    (CARRIED / "resnet50.xz").write_bytes(lzma.compress(arguments.backbone.read_bytes()))
    if arguments.wheel:
        shutil.copy(arguments.wheel, CARRIED)
    carried, tracked = (
        sum(path.stat().st_size + EACH for path in paths if path.is_file())
        for paths in (CARRIED.rglob("*"), (ROOT / name for name in _git("ls-files", "-z").split("\0") if name))
    )
    total = carried + tracked
    print(f".gpu {carried / 2**20:.1f} MiB + tracked files {tracked / 2**20:.1f} MiB = {total / 2**20:.1f} of 64 MiB")
    ignored = subprocess.run(["git", "check-ignore", "-q", ".gpu"], cwd=ROOT).returncode == 0
    if not ignored:
        print("not ignored yet: echo /.gpu/ >> .git/info/exclude")
    return 0 if total < LIMIT and ignored else 1


def _shrunk(source: Path) -> bytes:
    """The same pixels in fewer bytes: arithmetic coding, of which Pillow reads 64 KiB, else better Huffman tables."""
    import numpy as np
    from PIL import Image

    smallest = source.read_bytes()
    if not shutil.which("jpegtran") or source.suffix.lower() not in (".jpg", ".jpeg"):
        return smallest
    pixels = np.asarray(Image.open(io.BytesIO(smallest)).convert("RGB"))
    for coding in (["-optimize", "-progressive"], ["-arithmetic"]):
        command = ["jpegtran", "-copy", "none", *coding, str(source)]
        coded = subprocess.run(command, capture_output=True, check=True).stdout
        with contextlib.suppress(OSError):
            same = np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(coded)).convert("RGB")))
            smallest = min(smallest, coded, key=len) if same else smallest
    return smallest


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def unpack() -> None:
    """There: CamVid in SegNet's layout and a float32 ResNet-50 under WORK; seconds, once."""
    if (WORK / "ready").exists():
        return
    import numpy as np
    from PIL import Image
    from safetensors.torch import load, save_file

    facts, images = json.loads((CARRIED / "camvid.json").read_text()), (CARRIED / "images.bin").read_bytes()
    masks = np.frombuffer(lzma.decompress((CARRIED / "masks.xz").read_bytes()), np.uint8).reshape(facts["shape"])
    at = 0
    for (split, name, length), mask in zip(facts["names"], masks, strict=True):
        for kind in (split, f"{split}annot"):
            (WORK / "camvid" / kind).mkdir(parents=True, exist_ok=True)
        (WORK / "camvid" / split / name).write_bytes(images[at : at + length])
        Image.fromarray(mask).save(WORK / "camvid" / f"{split}annot" / f"{Path(name).stem}.png", compress_level=1)
        at += length
    # A few images for what a CPU has to do as well, and fewer for its twelve passes.
    for name, step in (("few", 10), ("fewer", 60)):
        for kind in ("train", "trainannot", "test", "testannot"):
            (WORK / name / kind).mkdir(parents=True, exist_ok=True)
        for kind in ("test", "testannot"):
            for path in sorted((WORK / "camvid" / kind).iterdir())[step // 2 :: step]:
                shutil.copy(path, WORK / name / kind)
    packed, weights = load(lzma.decompress((CARRIED / "resnet50.xz").read_bytes())), {}
    for name, value in packed.items():
        if name.endswith(".q"):
            scale = packed[f"{name[:-2]}.s"]
            weights[name[:-2]] = value.float() * scale.view(-1, *[1] * (value.dim() - 1))
        elif not name.endswith(".s"):
            weights[name] = value
    save_file(weights, WORK / "resnet50.safetensors")
    (WORK / "ready").touch()
