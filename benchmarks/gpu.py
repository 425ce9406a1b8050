#!/usr/bin/env python3
"""One run on a GPU machine: kernels, layer, peers, training, evaluation, in order of worth, each with a time limit.

    python benchmarks/gpu.py prepare --data CAMVID --backbone PACKED.safetensors [--wheel MMCV_WHEEL]
    python benchmarks/gpu.py run --out DIR [--budget 470] [--only "STAGE;STAGE"] [--dry-run]

`prepare` (here) packs CamVid's train and test images and the ResNet-50 into the ignored folder `.gpu`, which travels
with the checkout; it refuses what would not fit. `run` (there) starts each stage as a process of its own, appends one
line to DIR/results.jsonl and rewrites DIR/results.md after each, so that a run that is cut off leaves what was found. A
stage that is `ok` in DIR/results.jsonl or .gpu/results.jsonl is not repeated. `--dry-run` does everything on a CPU with
a tiny network: it proves the script, not the GPU.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from gpu_checks import CHECKS
from gpu_ledger import Ledger, child
from gpu_pack import WORK, prepare, unpack
from gpu_stages import STAGES


def run(arguments: argparse.Namespace) -> int:
    """All stages that there is time for."""
    ledger = Ledger(arguments.out, arguments.budget, arguments.dry_run)
    WORK.mkdir(parents=True, exist_ok=True)
    status, text, seconds = child(
        [sys.executable, str(Path(__file__).resolve()), "unpack"], ledger.left, ledger.out / "log.txt"
    )
    if status:
        ledger.add("unpack", False, seconds, {}, text)
        return 1
    chosen = arguments.only.split(";") if arguments.only else list(STAGES)
    for name in chosen:
        if name not in STAGES:
            print(f"unknown stage {name!r}; known: {'; '.join(STAGES)}")
            return 2
        least, most, work = STAGES[name]
        if ledger.done(name):
            continue
        if ledger.left < least:
            print(f"[{ledger.left:5.0f} s left] {name}: no time")
            continue
        began = time.monotonic()
        try:
            work(ledger, min(most, ledger.left))
        except Exception as error:  # one broken stage must not cost the others
            ledger.add(name, False, time.monotonic() - began, {}, f"{type(error).__name__}: {error}")
    print((ledger.out / "results.md").read_text())
    return 0 if all(ledger.done(name) for name in chosen) else 1


def stop_at(words: list[str]) -> int:
    """`crisscross train WORDS...`, with Ctrl-C after an iteration."""
    from crisscross.cli import main
    from crisscross.engine.run.journal import Journal

    last, former = int(words[0]), Journal.step

    def step(self: Any, one: Any, *rest: Any) -> None:
        former(self, one, *rest)
        if one.iteration == last:
            os.kill(os.getpid(), signal.SIGINT)

    Journal.step = step  # type: ignore[method-assign]
    return main(words[1:])


def main() -> int:
    if sys.argv[1:2] == ["stop-at"]:
        return stop_at(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    here = commands.add_parser("prepare")
    here.add_argument("--data", type=Path, required=True)
    here.add_argument("--backbone", type=Path, required=True)
    here.add_argument("--wheel", type=Path)
    here.add_argument("--images", type=int, help="of each split at most (for a dry run)")
    here.set_defaults(work=prepare)
    there = commands.add_parser("run")
    there.add_argument("--out", type=Path, required=True)
    there.add_argument("--budget", type=float, default=470.0)
    there.add_argument("--only", default="", help="stages, parted by ;")
    there.add_argument("--dry-run", action="store_true")
    there.set_defaults(work=run)
    commands.add_parser("unpack").set_defaults(work=lambda _: unpack() or 0)
    own = commands.add_parser("check")
    own.add_argument("stage", choices=list(CHECKS))
    own.add_argument("--device", default="cuda")
    own.set_defaults(work=lambda a: CHECKS[a.stage](a.device) or 0)
    arguments = parser.parse_args()
    return arguments.work(arguments)


if __name__ == "__main__":
    sys.exit(main())
