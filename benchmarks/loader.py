"""Samples per second that one worker decodes and augments, step by step.

    python benchmarks/loader.py DATA [--recipe camvid-light] [--samples 60]

Prints milliseconds for each step (medians) and samples per second for one worker, beside how many samples a training
step of the recipe needs. One thread, as a worker runs.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torchvision.tv_tensors import Image, Mask

from crisscross import zoo
from crisscross.data import open_dataset
from crisscross.data.files.reading import read_pair
from crisscross.data.samples.distortion import photometric_distortion
from crisscross.data.samples.loader import TrainingSamples
from crisscross.data.samples.preprocess import normalize
from crisscross.data.samples.transforms import random_crop, random_flip, random_resize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--recipe", default="camvid-light")
    parser.add_argument("--samples", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    experiment = zoo.recipe(arguments.recipe)
    dataset = open_dataset(experiment.data.name, arguments.data)
    samples = TrainingSamples(dataset, dataset.split("train"), experiment)
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable, *inputs: object) -> tuple:
        began = time.perf_counter()
        result = work(*inputs)
        times.setdefault(name, []).append(time.perf_counter() - began)
        return result

    for n in range(arguments.samples):
        generator = torch.Generator().manual_seed(n)
        image, mask = timed("read", read_pair, samples.pair_at(n), dataset)
        pair = Image(torch.from_numpy(image).permute(2, 0, 1)), Mask(torch.from_numpy(mask))
        pair = timed("resize", random_resize, *pair, experiment.augment, generator)
        pair = timed("crop", random_crop, *pair, experiment.augment, dataset.ignore, generator)
        pair = timed("flip", random_flip, *pair, 0.5, generator)
        plain = timed("distort", photometric_distortion, pair[0].as_subclass(torch.Tensor), generator)
        timed("normalize", normalize, plain, experiment.preprocess)
        timed("whole sample", samples.__getitem__, n)
    for name, values in times.items():
        print(f"{name:14} {1000 * statistics.median(values):7.2f} ms")
    rate = 1 / statistics.median(times["whole sample"])
    print(f"{rate:.0f} samples per second and worker; {arguments.recipe} takes {experiment.train.batch} a step")


if __name__ == "__main__":
    main()
