"""Commands killed (SIGKILL) at random moments: what they leave is whole, and the next run ends as if nothing had been.

    python tests/helpers/kills.py [--count 40] [--seed 0] [train predict evaluate convert prepare]

Each command runs in a process that is forked from this one, so that moments fall into its work and not into imports. Of
two kills one comes at a random moment, one when the first temporary file stands there after such a moment. Of two runs
that write over earlier results one is killed again. Prints a line for each kind of command; exits with 1 if any broke
the promise.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from published_data import write_camvid32
from shapes_data import experiment, write_shapes

import crisscross
from crisscross.checkpoints import native
from crisscross.cli import main
from crisscross.config import to_yaml
from crisscross.config.documents import read_json
from crisscross.engine.run.log import read_log

TEMPORARY = ".*.crisscross.tmp"


def started(words: list[str], log: Path) -> int:
    """The number of a new process that runs a command and writes what it says to `log`."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(told, 1)
        os.dup2(told, 2)
        code = main(words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def finished(words: list[str], log: Path) -> float:
    """Run a command to its end; the seconds that it took."""
    began = time.monotonic()
    _, status = os.waitpid(started(words, log), 0)
    assert status == 0, f"{' '.join(words)}: {log.read_text()}"
    return time.monotonic() - began


def killed(words: list[str], log: Path, out: Path, wait: float, at_file: bool) -> bool:
    """Run a command and kill it after some seconds, or when a temporary file is there then; whether it still ran."""
    process, began = started(words, log), time.monotonic()
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        if time.monotonic() - began >= wait and not (at_file and not any(out.rglob(TEMPORARY))):
            os.kill(process, signal.SIGKILL)
            return os.waitpid(process, 0)[1] == signal.SIGKILL
        time.sleep(0.0002 if at_file else 0.002)
    return False


def content(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def same_files(out: Path, whole: Path, ended: bool) -> None:
    """Every file with a final name is that of the run that was let alone; at the end all are there and nothing else."""
    ours = {name: value for name, value in content(out).items() if ended or not Path(name).match(TEMPORARY)}
    theirs = content(whole)
    assert ours.keys() == theirs.keys() if ended else ours.keys() <= theirs.keys(), sorted(ours)
    # Scores tell the time that they took.
    assert not [name for name, value in ours.items() if name != "scores.json" and value != theirs[name]]
    for name in ours:
        if name == "scores.json":
            assert read_json(out / name)["confusion"] == read_json(whole / name)["confusion"]


def same_training(out: Path, whole: Path, ended: bool) -> None:
    """Weights, optimizer and log of the run that was let alone, bit for bit; before the end, a beginning of them."""
    for path in out.glob("*.safetensors"):
        tensors, _, facts = native.read(path)
        native.check_finite(tensors, path.name)
        if ended:
            expected, _, others = native.read(whole / path.name)
            assert tensors.keys() == expected.keys()
            assert not [key for key in tensors if not torch.equal(tensors[key], expected[key])], path.name
            assert facts.get("position") == others.get("position")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log = [{key: value for key, value in entry.items() if key != "seconds"} for entry in read_log(out)]
        expected_log = [{key: value for key, value in entry.items() if key != "seconds"} for entry in read_log(whole)]
    assert log == expected_log if ended else log == expected_log[: len(log)]
    for path in (out / "run.json", out / "log.csv"):
        assert ended <= path.exists()
    if (out / "run.json").exists():
        assert read_json(out / "run.json")["starts"]
    if ended:
        assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}


@dataclass
class Command:
    """One kind of command: `words(out)` writes below `out`; `again` are the words of the run after the kill."""

    name: str
    words: Callable[[Path], list[str]]
    check: Callable[[Path, Path, bool], None] = same_files
    again: Callable[[Path], list[str]] = lambda out: []
    # Whether it may find its own earlier results.
    replaces: bool = True
    counts: Counter = field(default_factory=Counter)

    def attack(self, folder: Path, count: int, chance: random.Random) -> None:
        """Kill it `count` times and see that each time the next run ends as one that was let alone."""
        whole, log = folder / "whole", folder / "log.txt"
        folder.mkdir(parents=True)
        length = finished(self.words(whole), log)
        tries = 0
        while self.counts["kills"] < count and tries < 20 * count:
            tries += 1
            out = folder / f"out{tries}"
            over = self.replaces and tries % 4 > 1
            if over:
                finished(self.words(out), log)
            if not killed(self.words(out), log, out, chance.uniform(0, length), tries % 2 == 0):
                self.counts["ended before"] += 1
                continue
            self.counts["kills"] += 1
            self.counts["over earlier results"] += over
            self.counts["left a temporary file"] += any(out.rglob(TEMPORARY))
            self.counts["left a final file"] += out.exists() and any(path.is_file() for path in out.rglob("[!.]*"))
            try:
                self.check(out, whole, False)
                finished(self.words(out) + self.again(out), log)
                self.check(out, whole, True)
            except Exception as error:
                self.counts["BROKEN"] += 1
                line = traceback.extract_tb(error.__traceback__)[-1].line
                print(f"{self.name}, try {tries} ({out}): {type(error).__name__}: {error} ({line})", flush=True)


def commands(root: Path, names: list[str]) -> list[Command]:
    """The commands of these names, on drawn images and a tiny network."""
    data = str(write_shapes(root / "shapes", val=8))
    torch.manual_seed(0)
    weights, recipe = root / "tiny.safetensors", root / "tiny.yaml"
    tiny = experiment(
        *("data.classes=[ground, disc, square]", "train.iterations=12", "train.validate_every=4"),
        "train.checkpoint_every=1",
    )
    crisscross.save(crisscross.Segmenter(tiny), weights)
    recipe.write_text(to_yaml(tiny), encoding="utf-8")
    colors = write_camvid32(root / "camvid", 6)
    usual = ["--device", "cpu", "--workers"]
    train = ["train", str(recipe), "--data", data, *usual]
    label = ["--device", "cpu", "--workers", "0"]

    def resume(out: Path) -> list[str]:
        return ["--resume"] if (out / "last.safetensors").exists() else []

    known = [
        Command("train", lambda out: [*train, "0", "--out", str(out)], same_training, resume, False),
        Command("train-workers", lambda out: [*train, "1", "--out", str(out)], same_training, resume, False),
        Command(
            "predict", lambda out: ["predict", str(weights), f"{data}/images", "--out", str(out), "--device", "cpu"]
        ),
        Command(
            "evaluate",
            lambda out: [
                *("evaluate", str(weights), "--data", data, "--split", "val", *label),
                *("--save-predictions", str(out / "labels"), "--json", str(out / "scores.json")),
            ],
        ),
        Command("convert", lambda out: ["convert", str(weights), str(out / "x.safetensors"), "--half"]),
        Command("convert-folder", lambda out: ["convert", str(weights), str(out / "network")]),
        Command("prepare", lambda out: ["data", "prepare", "camvid32", str(colors), "--out", str(out)]),
    ]
    if unknown := set(names) - {command.name for command in known}:
        raise SystemExit(f"no such command: {', '.join(unknown)}; known: {', '.join(each.name for each in known)}")
    return [command for command in known if not names or command.name in names]


def attack_all(names: list[str], count: int, seed: int, root: Path) -> list[Command]:
    """Every command of these names (all where there are none), killed `count` times each."""
    torch.set_num_threads(1)
    # What commands note about their files is not the user's.
    os.environ["XDG_CACHE_HOME"] = str(root / "cache")
    Image.init()
    chosen = commands(root, names)
    for command in chosen:
        command.attack(root / command.name, count, random.Random(f"{seed} {command.name}"))
        print(f"{command.name}: {', '.join(f'{count} {what}' for what, count in command.counts.items())}", flush=True)
    return chosen


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="which commands; default: all")
    parser.add_argument("--count", type=int, default=40, help="kills of each")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done = attack_all(arguments.names, arguments.count, arguments.seed, Path(folder))
    sys.exit(any(command.counts["BROKEN"] for command in done))
