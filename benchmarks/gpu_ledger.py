"""Results as they come, and commands with a time limit."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gpu_pack import CARRIED, ROOT

# Seconds kept free at the end of the budget: for the last line, and for what is under way.
RESERVE = 6.0


class Ledger:
    """What is left of the time, and the results so far."""

    def __init__(self, out: Path, budget: float, dry: bool) -> None:
        self.out, self.dry, self.ends = out, dry, time.monotonic() + budget
        self.lines: list[dict[str, Any]] = []
        out.mkdir(parents=True, exist_ok=True)
        for earlier in (CARRIED / "results.jsonl", out / "results.jsonl"):
            if earlier.is_file():
                self.lines += [json.loads(line) for line in earlier.read_text().splitlines() if line.strip()]

    @property
    def left(self) -> float:
        return self.ends - time.monotonic() - RESERVE

    def done(self, stage: str) -> bool:
        return any(line["stage"] == stage and line["ok"] for line in self.lines)

    def fact(self, stage: str, name: str, default: Any = None) -> Any:
        found = [line["facts"][name] for line in self.lines if line["stage"] == stage and name in line["facts"]]
        return found[-1] if found else default

    def add(self, stage: str, ok: bool, seconds: float, facts: dict[str, Any], tail: str = "") -> None:
        line = {"stage": stage, "ok": ok, "seconds": round(seconds, 1), "facts": facts, "tail": tail[-3000:]}
        self.lines.append(line)
        with (self.out / "results.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        rows = ["| stage | ok | s | facts |", "|---|---|---|---|"]
        rows += [f"| {x['stage']} | {'yes' if x['ok'] else 'NO'} | {x['seconds']} | {_told(x)} |" for x in self.lines]
        (self.out / "results.md").write_text("\n".join(rows) + "\n")
        print(f"[{self.left:5.0f} s left] {stage}: {'ok' if ok else 'FAILED'} in {seconds:.1f} s  {_told(line)[:400]}")
        if not ok:
            print(tail[-1500:])
        sys.stdout.flush()


def _told(line: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in line["facts"].items()).replace("|", "/") or "-"


def child(command: list[str], limit: float, log: Path, interrupt: bool = False) -> tuple[int, str, float]:
    """Run a command for at most `limit` seconds: (exit status, what it printed, seconds). 124: stopped at the limit.

    `interrupt`: it is asked by Ctrl-C first and gets 25 s to save; the status is then its own.
    """
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    began, status = time.monotonic(), 124
    with log.open("ab") as file:
        at = file.tell()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True)
        try:
            status = process.wait(max(limit, 1))
        except subprocess.TimeoutExpired:
            if interrupt:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = process.wait(25)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    with log.open("rb") as file:
        file.seek(at)
        return status, file.read().decode(errors="replace"), time.monotonic() - began


def crisscross(*words: Any) -> list[str]:
    return [sys.executable, "-m", "crisscross", *map(str, words)]


def benchmark(*words: Any) -> list[str]:
    return [sys.executable, "-m", "benchmarks", *map(str, words)]


def check(stage: str, ledger: Ledger, *words: Any) -> list[str]:
    """This script's own checks, in a process of its own: they print one JSON line each."""
    device = "cpu" if ledger.dry else "cuda"
    return [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "check", stage, "--device", device, *map(str, words)]


def checked(ledger: Ledger, stage: str, limit: float, *words: Any) -> None:
    """A stage of own checks: ok where all are."""
    status, text, seconds = child(check(stage, ledger, *words), limit, ledger.out / "log.txt")
    found = [json.loads(line[7:]) for line in text.splitlines() if line.startswith("@check ")]
    bad = [entry["name"] for entry in found if not entry["ok"]]
    facts: dict[str, Any] = {"passed": len(found) - len(bad)} | ({"failed": bad} if bad else {})
    for entry in found:
        facts |= entry.get("facts", {})
    ledger.add(stage, status == 0 and not bad and bool(found), seconds, facts, text if status or bad else "")
