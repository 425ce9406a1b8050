"""A task of your own: image classification. Trains on drawn images, validates, stops, resumes and predicts.

python examples/own_task.py

On the command line, in the folder of this file, where shapes.yaml has the line `task: own_task:Classification`:
crisscross train shapes.yaml --data . --out RUN
"""

import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional

import crisscross
from crisscross.config import DataConfig, OptimConfig, TrainConfig
from crisscross.data.samples.loader import Samples
from crisscross.engine.task import Built, Result, Settled, Task
from crisscross.engine.train import train
from crisscross.losses import Losses

CLASSES = ("disc", "square")


@dataclass(frozen=True)
class Experiment:
    task: str = "own_task:Classification"
    name: str = "shapes"
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig("adamw", lr=0.02))
    train: TrainConfig = field(default_factory=lambda: TrainConfig(iterations=40, batch=8, validate_every=20))


class Shapes(Samples):
    def __init__(self, experiment):
        self.experiment = experiment

    def __getitem__(self, n):
        """Image float32 [3, 32, 32] in 0..1, its class, and a name: a disc where the number is even, else a square."""
        number, line = self.place_at(n, 64), torch.arange(32.0)
        x, y = line - 16 + number % 5, line[:, None] - 16 + number % 3
        inside = (x**2 + y**2 < 110) if number % 2 == 0 else torch.maximum(x.abs(), y.abs()) < 9
        return inside.expand(3, -1, -1).float(), torch.tensor(number % 2), str(number)


class Classification(Task):
    name, title, experiment, columns = "own_task:Classification", "accuracy", Experiment, ("val_accuracy",)

    def open(self, experiment, root):
        return SimpleNamespace(name="shapes", root=Path(root), splits={"train": range(64), "val": range(64)})

    def settle(self, experiment, data, start, stored=None):
        return Settled(experiment, experiment.data.val_split)

    def build(self, experiment, start):
        layers = nn.Conv2d(3, 16, 5, 2), nn.ReLU(), nn.Conv2d(16, 16, 5, 2), nn.ReLU(), nn.AdaptiveMaxPool2d(1)
        network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, len(CLASSES)))
        network.experiment = experiment
        return Built(network, {})

    def samples(self, experiment, data, cache="", first=True):
        return Shapes(experiment)

    def losses(self, experiment):
        def step(network, batch):
            loss = functional.cross_entropy(network(batch.images), batch.labels)
            return Losses(loss, {"cross_entropy": loss.detach()})

        return step

    def evaluate(self, network, data, split, options=None):
        batch = Shapes.collate([Shapes(network.experiment)[n] for n in data.splits[split]])
        accuracy = float((network.eval()(batch.images).argmax(1) == batch.labels).float().mean())
        return Result(accuracy, {"val_accuracy": accuracy}, [f"accuracy {accuracy:.3f}"], {"accuracy": accuracy})

    def predictor(self, network, **options):
        return lambda image: CLASSES[int(network.eval()(torch.tensor(image).permute(2, 0, 1)[None] / 255).argmax())]


def stop(step):
    if step.iteration == 10:
        signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    task, experiment = Classification(), Experiment()
    with tempfile.TemporaryDirectory() as run:
        what = experiment, task.open(experiment, run), Path(run, "run")
        print("finished:", train(*what, listener=stop, task=task).finished)
        print("resumed and finished:", train(*what, resume=True, task=task).finished)
        # Weights that name code load from a folder that you trust.
        network = crisscross.load(what[-1], trust=run)
        print("accuracy:", task.evaluate(network, what[1], "val").score)
        image = (Shapes(experiment)[5][0] * 255).byte().permute(1, 2, 0).numpy()
        print("predicted:", task.predictor(network)(image))
