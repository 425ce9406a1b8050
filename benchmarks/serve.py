"""`crisscross serve` under load from another process on the loopback: images of mixed sizes, bad input among them.

    python -m benchmarks.serve [NETWORK] [--seconds 600] [--clients 4] [--threads 1] [--json FILE]

Without a network, that of the recipe `demo` with random weights. Clients send images one after the other, one client
sends bad input of each kind in turn, one is slow, and every thirty seconds 500 requests come at once. Every answer is
checked: its status, and where it is labels, that they are the predictor's own. Exits with 1 where an answer is missing
or wrong.
"""

import argparse
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import crisscross
from crisscross import zoo
from crisscross.config import override
from crisscross.data.scenes import write_scenes
from crisscross.progress import Progress

SIZES = ((96, 128), (128, 256), (180, 240), (240, 320))
TIMEOUT, BURST, BURST_EVERY = 30, 500, 30.0
GONE = 0


class Case(NamedTuple):
    """What is sent, the statuses that are right, and the labels where they are known."""

    name: str
    content: bytes
    right: tuple[int, ...] = (200, 429)
    labels: np.ndarray | None = None


class Load:
    """Requests to one port, and what came of them."""

    def __init__(self, port: int, cases: list[Case], bad: list[Case]) -> None:
        self.port, self.cases, self.bad = port, cases, bad
        self.stop = threading.Event()
        self.answers: Counter[tuple[str, int]] = Counter()
        self.seconds: list[float] = []
        self.wrong: list[str] = []
        self.pixels = self.differing = 0
        self._lock = threading.Lock()

    def send(self, case: Case) -> int:
        """One request on a connection of its own; the status."""
        began = time.monotonic()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
            connection.request("POST", "/predict", case.content)
            answer = connection.getresponse()
            status, body = answer.status, answer.read()
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            self.note(case, -1, f"{case.name}: no answer: {error!r}")
            return -1
        problem = "" if status in case.right else f"{case.name}: {status} {body[:200]!r}"
        if status != 200 and list(json.loads(body)) != ["error"]:
            problem = f"{case.name}: {body[:200]!r}"
        seconds = time.monotonic() - began
        with self._lock:
            if status == 200:
                self.seconds.append(seconds)
        if status == 200 and case.labels is not None:
            self.compare(case, body)
        self.note(case, status, problem)
        return status

    def compare(self, case: Case, body: bytes) -> None:
        """Count the labels that are not the predictor's own."""
        labels = np.asarray(Image.open(io.BytesIO(body)))
        assert case.labels is not None
        with self._lock:
            self.pixels += labels.size
            self.differing += int((labels != case.labels).sum())

    def note(self, case: Case, status: int, problem: str) -> None:
        """Count an answer."""
        with self._lock:
            self.answers[case.name, status] += 1
            self.wrong += [problem] * bool(problem)

    def images(self, number: int) -> None:
        """A client that sends image after image, and waits for a second where it is told to."""
        chance = random.Random(number)
        while not self.stop.is_set():
            if self.send(chance.choice(self.cases)) == 429:
                self.stop.wait(1)

    def bad_input(self) -> None:
        """A client that sends bad input of each kind in turn, and breaks off in the middle of an image."""
        while not self.stop.is_set():
            for case in self.bad:
                self.send(case)
                self.stop.wait(0.1)
            self.part(self.cases[0], "cut off").close()
            self.note(Case("cut off", b""), GONE, "")

    def slow(self) -> None:
        """A client that never sends the second half of its image."""
        while not self.stop.is_set():
            with self.part(self.cases[0], "slow") as connection:
                answer = b""
                while more := connection.recv(4096):
                    answer += more
            status = int(answer[9:12] or b"0")
            problem = "" if status in (408, 429) else f"slow: {answer[:200]!r}"
            self.note(Case("slow", b""), status, problem)
            self.stop.wait(1)

    def part(self, case: Case, name: str) -> socket.socket:
        """A connection on which the first half of a request was sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), 300)
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(case.content)}\r\n\r\n"
        connection.sendall(head.encode() + case.content[: len(case.content) // 2])
        return connection

    def bursts(self) -> None:
        """Many clients at once, again and again."""
        while not self.stop.wait(BURST_EVERY / 2):
            chosen = [self.cases[number % len(self.cases)]._replace(name="500 at once") for number in range(BURST)]
            threads = [threading.Thread(target=self.send, args=(case,)) for case in chosen]
            run_all(threads)
            self.stop.wait(BURST_EVERY / 2)


def run_all(threads: list[threading.Thread]) -> None:
    """Start all, wait for all."""
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def image_cases(network: str, folder: Path) -> list[Case]:
    """Drawn scenes of all sizes, as PNG and JPEG, with the predictor's labels."""
    predictor, cases = crisscross.predictor(network), []
    for height, width in SIZES:
        root = folder / f"{height}x{width}"
        write_scenes(root, {"test": 2}, height=height, width=width)
        for path in sorted((root / "images").iterdir()):
            pixels = Image.open(path)
            for kind in ("PNG", "JPEG"):
                buffer = io.BytesIO()
                pixels.save(buffer, kind)
                labels = predictor.predict(buffer.getvalue()).labels
                cases.append(Case("images", buffer.getvalue(), labels=labels))
    return cases


def bad_cases(good: bytes) -> list[Case]:
    """Bad input by kind; while too much is waiting, all of it is refused with 429."""
    buffer = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(buffer, "PNG")
    large = buffer.getvalue()
    # The size in the head of a PNG, and the checksum of the head.
    head = b"IHDR" + (2**31 - 1).to_bytes(4, "big") * 2 + large[24:29]
    bomb = large[:12] + head + zlib.crc32(head).to_bytes(4, "big") + large[33:]
    found = {
        "2^62 pixels": (bomb, 413),
        "100 megapixels": (large, 413),
        "too many bytes": (bytes(21 * 2**20), 413),
        "truncated": (good[: len(good) // 2], 400),
        "empty": (b"", 400),
        "wrong type": (b"%PDF-1.7\n" * 1000, 415),
    }
    return [Case(name, content, (status, 429)) for name, (content, status) in found.items()]


@contextmanager
def service(network: str, threads: int, log: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`crisscross serve` on a free port; it has to stop with exit code 0."""
    options = ["--device", "cpu", "--port", "0", "--timeout", str(TIMEOUT)]
    words = [sys.executable, "-m", "crisscross", "serve", network, *options]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with log.open("w") as errors, subprocess.Popen(words, stdout=-1, stderr=errors, text=True, env=environment) as one:
        try:
            line = one.stdout.readline() if one.stdout else ""
            found = re.search(r":(\d+) ", line)
            if not found:
                raise SystemExit(f"the service did not start: {log.read_text()}")
            yield one, int(found[1])
            one.send_signal(signal.SIGTERM)
            if code := one.wait(60):
                raise SystemExit(f"the service ended with {code}")
        finally:
            one.kill()


def mebibytes(process: int) -> float:
    """Memory of a process."""
    text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s*(\d+)", text)
    return int(found[1]) / 1024 if found else 0.0


def measure(load: Load, process: int, seconds: float, clients: int) -> list[float]:
    """Run the load; memory of the service, once a second."""
    work: list[Callable[[], None]] = [load.bad_input, load.slow, load.bursts]
    threads = [threading.Thread(target=one) for one in work]
    threads += [threading.Thread(target=load.images, args=(number,)) for number in range(clients)]
    memory, began = [], time.monotonic()
    with Progress("load", int(seconds)) as progress:
        for thread in threads:
            thread.start()
        while (elapsed := time.monotonic() - began) < seconds:
            memory.append(mebibytes(process))
            progress.update(int(elapsed), answers=str(sum(load.answers.values())), wrong=str(len(load.wrong)))
            time.sleep(1)
        load.stop.set()
        for thread in threads:
            thread.join()
    return memory


def report(load: Load, memory: list[float], seconds: float) -> dict[str, Any]:
    """Print what was measured, as Markdown; the same as a dictionary."""
    total, labeled = sum(load.answers.values()), len(load.seconds)
    waits = np.percentile(load.seconds, (50, 95, 99)) * 1000
    quarters = [memory[min(int(len(memory) * part), len(memory) - 1)] for part in (0.1, 0.25, 0.5, 0.75, 1)]
    print("\n| sent | answers by status |\n|---|---|")
    by_name: dict[str, list[str]] = {}
    for (name, status), count in sorted(load.answers.items()):
        by_name.setdefault(name, []).append(f"{count} x {status if status != GONE else 'none, as the client left'}")
    for name, found in by_name.items():
        print(f"| {name} | {', '.join(found)} |")
    rows = {
        "requests per second": f"{total / seconds:.1f}",
        "labeled images per second": f"{labeled / seconds:.1f}",
        "p50 / p95 / p99 of labeled images, ms": " / ".join(f"{value:.0f}" for value in waits),
        "answers missing or wrong": str(len(load.wrong)),
        "labels that differ from the predictor's": f"{load.differing} of {load.pixels}",
        "memory after 10, 25, 50, 75, 100% of the time, MiB": ", ".join(f"{value:.0f}" for value in quarters),
    }
    print("\n| | |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    for line in load.wrong[:20]:
        print(line, file=sys.stderr)
    answers = {f"{name} {status}": count for (name, status), count in load.answers.items()}
    return {"seconds": seconds, "rows": rows, "answers": answers, "memory": memory, "wrong": load.wrong}


def main() -> int:
    """Serve, load, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="?", help="run, file or zoo name (default: the recipe demo, random weights)")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1, help="of the service's network")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, network = Path(name), arguments.network
        if network is None:
            network = str(folder / "demo.safetensors")
            classes = [f"class {number}" for number in range(8)]
            crisscross.save(crisscross.build(override(zoo.recipe("demo"), [f"data.classes={classes}"])), network)
        cases = image_cases(network, folder)
        with service(network, arguments.threads, folder / "log.jsonl") as (process, port):
            load = Load(port, cases, bad_cases(cases[0].content))
            memory = measure(load, process.pid, arguments.seconds, arguments.clients)
        found = report(load, memory, arguments.seconds)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(bool(load.wrong))


if __name__ == "__main__":
    sys.exit(main())
