"""One of the processes that tests/test_two_processes.py starts; it is no test itself.

Arguments: EVENT ITERATION COUNTS WORDS... After that iteration the second process kills itself (`kill`), gets Ctrl-C
(`interrupt`) or fails (`fail`); `none` lets it be. With a file COUNTS (`-` for none) a fresh network is first scored on
the split `val` and on `single`, and the first process writes the counts. Then WORDS is given to `crisscross`.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from accelerate import PartialState

from crisscross.cli import main
from crisscross.data import open_folder
from crisscross.engine.evaluate import evaluate
from crisscross.engine.journal import Journal
from crisscross.errors import CrissCrossError
from crisscross.models import Segmenter
from shapes_data import experiment


def counts(root: str) -> dict[str, list[list[int]]]:
    """Counts of a network with random weights, the same in every process."""
    torch.manual_seed(3)
    dataset = open_folder(root)
    segmenter = Segmenter(experiment("data.classes=[ground, disc, square]"))
    with torch.no_grad():
        # Else nearly every pixel would get the same class.
        segmenter.head.classify.weight.mul_(1000)
    return {split: evaluate(segmenter, dataset, split).counts.tolist() for split in ("val", "single")}


def at(iteration: int, event: str) -> None:
    original = Journal.step

    def step(self, step, *rest):
        original(self, step, *rest)
        if step.iteration == iteration and os.environ["RANK"] == "1":
            if event == "fail":
                raise CrissCrossError("the second process found a broken picture")
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "interrupt": signal.SIGINT}[event])

    Journal.step = step


if __name__ == "__main__":
    event, iteration, where, *words = sys.argv[1:]
    torch.set_num_threads(1)
    if event != "none":
        at(int(iteration), event)
    if where != "-":
        state = PartialState(cpu=True)
        found = counts(words[words.index("--data") + 1])
        if state.is_main_process:
            Path(where).write_text(json.dumps(found))
    raise SystemExit(main(words))
