"""The processes that tests/engine/test_two_processes.py starts; it is no test itself.

A request has `arguments`, the `port` where the two meet and a `log`. Arguments: EVENT ITERATION COUNTS WORDS... After
that iteration the second process kills itself (`kill`), gets Ctrl-C (`interrupt`) or fails (`fail`); with `hold` both
write beside the run folder how many numbers they hold of weights, gradients, optimizer state and average
(`RUN.held0`, `RUN.held1`); `none` lets them be. With a file COUNTS (`-` for none) a fresh network is first scored on
the split `val` and on `single`, and the first process writes the counts. Then WORDS is given to `crisscross`.
"""

import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path

import torch
from accelerate import PartialState
from shapes_data import experiment
from torch import Tensor, nn

from crisscross.cli import main
from crisscross.data import open_folder
from crisscross.engine.run.journal import Journal
from crisscross.engine.semantic.evaluate import evaluate
from crisscross.engine.train import _Run
from crisscross.errors import CrissCrossError
from crisscross.models import Segmenter


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
                raise CrissCrossError("the second process found a broken image")
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "interrupt": signal.SIGINT}[event])

    Journal.step = step


def hold(iteration: int) -> None:
    original = _Run._record

    def record(self, step):
        original(self, step)
        if step.iteration == iteration:
            parameters = list(self.network.parameters())
            held = {
                "weights": numbers(parameters),
                "gradients": numbers(parameter.grad for parameter in parameters),
                "momentum": numbers(self.optimizer.state[parameter]["momentum_buffer"] for parameter in parameters),
                "average": numbers(self.average.tensors[name] for name, _ in self.network.named_parameters()),
            }
            self.folder.with_suffix(f".held{os.environ['RANK']}").write_text(json.dumps(held))

    _Run._record = record


def numbers(tensors) -> int:
    """How many numbers of these tensors are in the memory of this process."""
    return sum((tensor.to_local() if hasattr(tensor, "to_local") else tensor).numel() for tensor in tensors)


class Peeping(nn.Module):
    """A backbone that uses a weight of its stage without calling the stage."""

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.stage = nn.Sequential(nn.Conv2d(8, 8, 3, stride=output_stride // 4, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> list[Tensor]:
        first = self.stem(x)
        return [first, self.stage(first) * self.stage[0].weight.mean()]


class Unread(nn.Module):
    """A backbone with its classifier, and with a stage that none of its maps comes from."""

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.stage = nn.Conv2d(8, 8, 3, stride=output_stride // 4, padding=1)
        self.next = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.classify = nn.Linear(16, 10)
        self.token = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        first = self.norm(self.stem(x))
        last = self.stage(first)
        self.next(last)
        return [first, last]


def work(event: str, iteration: str, where: str, *words: str) -> int:
    """What one of the processes does; its exit code."""
    torch.set_num_threads(1)
    if event == "hold":
        hold(int(iteration))
    elif event != "none":
        at(int(iteration), event)
    if where != "-":
        state = PartialState(cpu=True)
        found = counts(words[words.index("--data") + 1])
        if state.is_main_process:
            Path(where).write_text(json.dumps(found))
    return main(list(words))


def forked(rank: int, request: dict) -> int:
    """The number of a new process of this rank, which writes what it says to `LOG.RANK.out` and `LOG.RANK.err`."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        for stream, kind in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{request['log']}.{rank}.{kind}", os.O_WRONLY | os.O_CREAT), stream)
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": request["port"]}
        os.environ.update({key: str(value) for key, value in place.items()})
        code = work(*request["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    # One request a line; the answer has both exit codes. What a training imports late is imported once for all.
    for name in ("cv2", "timm", "torch._dynamo", "torch.distributed.fsdp", "torchvision.transforms.v2"):
        importlib.import_module(name)
    for line in sys.stdin:
        processes = [forked(rank, json.loads(line)) for rank in range(2)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
        print(json.dumps(codes), flush=True)
