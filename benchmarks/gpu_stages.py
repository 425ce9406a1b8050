"""The stages of a run on a GPU machine, by worth: each appends one line of facts to the ledger."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gpu_ledger import Ledger, benchmark, checked, child, crisscross
from gpu_pack import CARRIED, ROOT, WORK

# The exit status of a training that Ctrl-C stopped and that saved what it had.
STOPPED = 130


def kernels(ledger: Ledger, limit: float) -> None:
    """The kernels against the definition in float64, three dtypes, axes and clips, twice to the bit."""
    workers = min(12, os.cpu_count() or 1)
    command = [sys.executable, "-m", "pytest", "tests/ops/test_fused.py", "-q", "-k", "on_a_gpu", "--no-header"]
    has_xdist = subprocess.run([sys.executable, "-c", "import xdist"], capture_output=True).returncode == 0
    command += ["-n", str(workers)] if has_xdist and workers > 1 and not ledger.dry else []
    status, text, seconds = child(command, limit, ledger.out / "log.txt")
    last = text.strip().splitlines()[-1] if text.strip() else ""
    # Here all of them are skipped, which is status 0.
    proven = " passed" in last and " failed" not in last
    ledger.add("kernels", status == 0 and (proven or ledger.dry), seconds, {"pytest": last}, text if status else "")


def attention(ledger: Ledger, dtype: str, limit: float, peers: str = "mmcv,sdpa") -> None:
    """The layer beside its peers; tables go to attention-DTYPE.md."""
    wheel = next(iter(CARRIED.glob("mmcv_lite*.whl")), None)
    if wheel is None:
        peers = ",".join(name for name in peers.split(",") if name != "mmcv")
    sizes, channels, rounds = ("12x12", 16, 1) if ledger.dry else ("97x97,128x256", 512, 5)
    folder = WORK / f"attention-{dtype}-{peers.replace(',', '-')}"
    words = ["--device", "cpu" if ledger.dry else "cuda", "--dtype", dtype, "--sizes", sizes, "--channels", channels]
    words += ["--batch", 1 if ledger.dry else 4, "--rounds", rounds, "--peers", peers, "--out", folder]
    words += ["--mmcv-wheel", wheel] if wheel else []
    status, text, seconds = child(benchmark("attention", *words), limit, ledger.out / "log.txt")
    facts: dict[str, Any] = {}
    written = folder / "attention.json"
    if written.is_file():
        facts = _attention_facts(json.loads(written.read_text()))
        shutil.copy(written, ledger.out / f"{folder.name}.json")
    # The image needs matplotlib; tables do not.
    ledger.add(f"attention {dtype} {peers}", status == 0 and bool(facts), seconds, facts, text if status else "")


def _attention_facts(tree: Any) -> dict[str, Any]:
    """Milliseconds forward / forward + backward and MiB of training of each contestant at each size."""
    facts = {}
    for entry in tree.get("sizes", []):
        for row in entry.get("rows", []):
            times = [row.get("forward"), row.get("training")]
            facts[f"{entry.get('height')}x{entry.get('width')} {row.get('name')}"] = (
                "/".join("-" if value is None else f"{1000 * value:.3f}" for value in times) + " ms"
            )
    return facts or {"json": "written"}


def recipe(ledger: Ledger, recurrence: int) -> list[Any]:
    words: list[Any] = ["camvid-r50", "--data", WORK / "camvid"]
    plain = ["--set", "model.head.recurrence=0"] if recurrence == 0 else []
    if ledger.dry:
        words += ["--device", "cpu", "--workers", 0]
        words += _set(
            "model.backbone=test_resnet",
            "model.pretrained=false",
            "model.head.channels=16",
            "model.aux_head.channels=8",
        )
        return [*words, *_set("augment.crop=[64,64]", "train.batch=2"), *plain]
    workers = min(12, max((os.cpu_count() or 2) - 2, 1))
    words += ["--workers", workers, "--backbone-weights", WORK / "resnet50.safetensors"]
    return [*words, *_set("model.backbone=resnet50", "train.precision=bf16", "loss.normalizer=valid"), *plain]


def _set(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def read_log(run: Path) -> list[dict[str, Any]]:
    path = run / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def train(ledger: Ledger, recurrence: int, limit: float) -> None:
    """As many iterations as fit: their number decides the schedule, so a short run tells the rate first."""
    name, log = f"train R={recurrence}", ledger.out / "log.txt"
    run, probe = WORK / f"r{recurrence}", WORK / f"probe{recurrence}"
    for folder in (run, probe):
        shutil.rmtree(folder, ignore_errors=True)
    count, skipped = (4, 1) if ledger.dry else (60, 20)
    rhythm = ["train.validate_every=0", "train.checkpoint_every=0"]
    words = [*recipe(ledger, recurrence), "--out", probe, *_set(f"train.iterations={count}", *rhythm)]
    status, text, seconds = child(crisscross("train", *words), min(limit, 90), log)
    steps = [line for line in read_log(probe) if "loss" in line]
    if status or len(steps) < count:
        ledger.add(name, False, seconds, {"probe": f"{len(steps)} of {count} iterations"}, text)
        return
    rate = (count - skipped) / max(steps[-1]["seconds"] - steps[skipped - 1]["seconds"], 1e-6)
    # What a run takes beside its steady iterations: imports, the first steps, saving.
    start = max(seconds - count / rate, 0)
    iterations = 6 if ledger.dry else int((limit - seconds - start - 3) * rate * 0.93)
    if iterations < 6:
        ledger.add(name, False, seconds, {"rate": round(rate, 2), "left": round(limit - seconds)}, "no time to train")
        return
    rhythm = ["train.validate_every=0", f"train.checkpoint_every={max(iterations // 4, 1)}"]
    warm = f"optim.warmup={min(100, iterations // 10)}"
    words = [*recipe(ledger, recurrence), "--out", run, *_set(f"train.iterations={iterations}", warm, *rhythm)]
    # Asked by Ctrl-C at its limit, it saves what it has, and that can still be scored.
    status, text, more = child(crisscross("train", *words), limit - seconds, log, interrupt=True)
    steps = [line for line in read_log(run) if "loss" in line]
    facts: dict[str, Any] = {"rate": f"{rate:.2f} it/s", "iterations": f"{len(steps)} of {iterations}"}
    if steps:
        facts |= {"first loss": steps[0]["loss"], "last loss": steps[-1]["loss"]}
    ok = status in (0, STOPPED) and (run / "last.safetensors").is_file()
    ledger.add(name, ok, seconds + more, facts, text if not ok else "")


def score(ledger: Ledger, recurrence: int, tta: bool, limit: float) -> None:
    name = f"score R={recurrence}" + (" tta" if tta else "")
    run, found = WORK / f"r{recurrence}", WORK / f"r{recurrence}{'-tta' * tta}.json"
    if not (run / "last.safetensors").is_file():
        ledger.add(name, False, 0, {}, "nothing was trained")
        return
    data = WORK / ("few" if ledger.dry else "camvid")
    words = ["evaluate", run, "--data", data, "--split", "test", "--json", found, "--workers", 0 if ledger.dry else 4]
    words += (["--tta"] if tta else []) + (["--device", "cpu"] if ledger.dry else [])
    status, text, seconds = child(crisscross(*words), limit, ledger.out / "log.txt")
    facts = {}
    if found.is_file():
        tree = json.loads(found.read_text())
        facts = {key: tree[key] for key in ("miou", "pixel_accuracy", "fps", "memory_bytes", "images")}
    ledger.add(name, status == 0 and bool(facts), seconds, facts, text if status else "")


def agreement(ledger: Ledger, tta: bool, limit: float) -> None:
    """The shipped network on a few images: the GPU's counts beside the CPU's."""
    name, trees, log = "agreement" + (" tta" if tta else ""), [], ledger.out / "log.txt"
    began = time.monotonic()
    for device in ("gpu", "cpu"):
        found = WORK / f"agreement-{device}{tta}.json"
        data = WORK / ("fewer" if tta or ledger.dry else "few")
        words = ["evaluate", "camvid-light", "--data", data, "--split", "test", "--workers", 0, "--json", found]
        words += (["--tta"] if tta else []) + (["--device", "cpu"] if device == "cpu" or ledger.dry else [])
        status, text, _ = child(crisscross(*words), limit - (time.monotonic() - began), log)
        if status or not found.is_file():
            ledger.add(name, False, time.monotonic() - began, {"device": device}, text)
            return
        trees.append(json.loads(found.read_text()))
    gpu, cpu = trees
    counts = [[count for row in tree["confusion"] for count in row] for tree in trees]
    share = sum(abs(a - b) for a, b in zip(*counts, strict=True)) / 2 / sum(counts[1])
    facts = {"pixels that moved": f"{share:.2e}", "miou gpu": gpu["miou"], "miou cpu": cpu["miou"], "fps": gpu["fps"]}
    facts["memory MiB"] = round((gpu["memory_bytes"] or 0) / 2**20)
    # Convolutions in tf32, cuDNN's default, move about one label in a thousand.
    ledger.add(name, share < 5e-3 and abs(gpu["miou"] - cpu["miou"]) < 2e-3, time.monotonic() - began, facts)


def steps(ledger: Ledger, limit: float) -> None:
    """A training step, piece by piece, beside the plain network."""
    size, batch, rounds = ("64x64", 2, 1) if ledger.dry else ("512x512", 8, 3)
    words = ["--size", size, "--batch", batch, "--rounds", rounds, "--device", "cpu" if ledger.dry else "cuda"]
    network = "demo" if ledger.dry else "ccnet-r50"
    status, text, seconds = child(benchmark("train", network, *words), limit, ledger.out / "log.txt")
    (ledger.out / "steps.txt").write_text(text)
    ledger.add("steps", status == 0, seconds, {"table": "steps.txt"}, text if status else "")


def clips(ledger: Ledger, limit: float) -> None:
    """The 3-D layer beside the plain expression, in bf16."""
    words = ["--device", "cpu" if ledger.dry else "cuda", "--dtype", "float32" if ledger.dry else "bfloat16"]
    words += ["--size", "2x4x5", "--channels", 16, "--rounds", 1] if ledger.dry else []
    status, text, seconds = child(benchmark("clips", *words), limit, ledger.out / "log.txt")
    (ledger.out / "clips.txt").write_text(text)
    ledger.add("clips", status == 0, seconds, {"table": "clips.txt"}, text if status else "")


def network(ledger: Ledger, limit: float) -> None:
    """A user's own measurement: the shipped network in each precision and backend."""
    size, options = ("64x96", ["--rounds", 1, "--device", "cpu"]) if ledger.dry else ("720x960", ["--rounds", 5])
    words = ["benchmark", "camvid-light", "--size", size, *options]
    status, text, seconds = child(crisscross(*words), limit, ledger.out / "log.txt")
    (ledger.out / "network.txt").write_text(text)
    ledger.add("network", status == 0, seconds, {"table": "network.txt"}, text if status else "")


def short_run(ledger: Ledger, name: str, limit: float, *words: Any) -> None:
    """Some iterations another way: they have to end with a finite loss."""
    run, count = WORK / name.replace(" ", "-"), 3 if ledger.dry else 40
    shutil.rmtree(run, ignore_errors=True)
    rhythm = _set(f"train.iterations={count}", "train.validate_every=0", "train.checkpoint_every=0")
    command = crisscross("train", *recipe(ledger, 2), "--out", run, *rhythm, *words)
    status, text, seconds = child(command, limit, ledger.out / "log.txt")
    losses = [line["loss"] for line in read_log(run) if "loss" in line]
    last = losses[-1] if losses else None
    skips = sum(bool(line.get("skipped")) for line in read_log(run))
    ok = status == 0 and len(losses) == count and last is not None
    facts = {"last loss": last, "skipped": skips, "iterations": len(losses)}
    ledger.add(name, ok, seconds, facts, "" if ok else text)


def resume(ledger: Ledger, limit: float) -> None:
    """Stopped by Ctrl-C and resumed, beside a run that never stopped: the same losses."""
    log, began, losses = ledger.out / "log.txt", time.monotonic(), []
    count = 6 if ledger.dry else 40
    for kind in ("whole", "stopped"):
        run = WORK / f"resume-{kind}"
        shutil.rmtree(run, ignore_errors=True)
        rhythm = _set(f"train.iterations={count}", "train.validate_every=0", "train.deterministic=true")
        command = crisscross("train", *recipe(ledger, 2), "--out", run, *rhythm)
        if kind == "stopped":
            half = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "stop-at", str(count // 2), *command[3:]]
            child(half, (limit - (time.monotonic() - began)), log)
            command = [word for word in command if word != "--backbone-weights"]
            command = crisscross("train", run / "experiment.yaml", "--data", WORK / "camvid", "--out", run, "--resume")
            command += ["--device", "cpu", "--workers", "0"] if ledger.dry else ["--workers", "8"]
        status, text, _ = child(command, limit - (time.monotonic() - began), log)
        if status:
            ledger.add("resume", False, time.monotonic() - began, {"run": kind}, text)
            return
        losses.append([line["loss"] for line in read_log(run) if "loss" in line])
    apart = max(abs(a - b) for a, b in zip(*losses, strict=True))
    ledger.add("resume", len(losses[1]) == count and apart < 0.02, time.monotonic() - began, {"losses apart": apart})


def sanitizer(ledger: Ledger, limit: float) -> None:
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        ledger.add("sanitizer", ledger.dry, 0, {"tool": "not there"})
        return
    # Small shapes, of which one has clips: the checker slows a kernel down a hundred times. Without torch's own
    # allocator each tensor ends where its memory ends.
    command = ["env", "PYTORCH_NO_CUDA_MEMORY_CACHING=1", tool, "--error-exitcode", "9", sys.executable, "-m", "pytest"]
    command += ["tests/ops/test_fused.py", "-q", "-x", "-k", "on_a_gpu and (shape3-both or shape13-both)"]
    status, text, seconds = child(command, limit, ledger.out / "log.txt")
    said = (text.strip().splitlines() or [""])[-1]
    ledger.add("sanitizer", status == 0, seconds, {"said": said}, text if status else "")


# name -> (least seconds it is worth starting with, most seconds, work)
STAGES: dict[str, tuple[float, float, Any]] = {
    "machine": (5, 45, lambda s, t: checked(s, "machine", t)),
    "kernels": (15, 110, kernels),
    "layer": (15, 60, lambda s, t: checked(s, "layer", t)),
    "attention bfloat16 mmcv,sdpa": (15, 70, lambda s, t: attention(s, "bfloat16", t)),
    "train R=2": (90, 190, lambda s, t: train(s, 2, t)),
    "score R=2": (10, 40, lambda s, t: score(s, 2, False, t)),
    "agreement": (15, 60, lambda s, t: agreement(s, False, t)),
    "attention float32 mmcv,sdpa": (15, 60, lambda s, t: attention(s, "float32", t)),
    "attention float16 mmcv,sdpa": (15, 60, lambda s, t: attention(s, "float16", t)),
    "clips": (15, 60, clips),
    "network": (15, 60, network),
    "compiled": (20, 90, lambda s, t: checked(s, "compiled", t)),
    "fp16": (20, 45, lambda s, t: short_run(s, "fp16", t, *_set(f"train.precision={'bf16' if s.dry else 'fp16'}"))),
    "train R=0": (90, 190, lambda s, t: train(s, 0, t)),
    "score R=0": (10, 40, lambda s, t: score(s, 0, False, t)),
    "steps": (30, 90, steps),
    "resume": (45, 120, resume),
    "score R=2 tta": (15, 60, lambda s, t: score(s, 2, True, t)),
    "attention bfloat16 flex": (30, 100, lambda s, t: attention(s, "bfloat16", t, "flex")),
    "lean": (20, 45, lambda s, t: short_run(s, "lean", t, *_set("train.memory=lean"))),
    "agreement tta": (30, 90, lambda s, t: agreement(s, True, t)),
    "extra": (15, 60, lambda s, t: checked(s, "extra", t)),
    "sanitizer": (30, 100, sanitizer),
    # Inductor takes a minute or two for a whole network.
    "compile": (90, 170, lambda s, t: short_run(s, "compile", t, "--compile")),
}
