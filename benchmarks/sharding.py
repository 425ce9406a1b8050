"""What each process of a training holds of weights, gradients and optimizer state, with and without `--shard`.

    torchrun --nproc_per_node 2 benchmarks/sharding.py [--recipe NAME] [--set KEY=VALUE]

Bytes of the tensors after one small step on CPUs, by the process that holds most. What a step needs for a while is not
counted: activations, with `--shard` the whole weights and gradients of the stages at work, without it the buckets in
which gradients travel.
"""

import argparse
from collections.abc import Iterable
from dataclasses import replace

import torch
from accelerate import PartialState
from torch import Tensor

from crisscross import zoo
from crisscross.config import Experiment, override
from crisscross.engine.optimizer import create_optimizer
from crisscross.engine.shard import local, shard
from crisscross.models import Segmenter


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="ccnet_r50-d8_4xb2-40k_cityscapes-512x1024")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    state = PartialState(cpu=True)
    experiment = override(zoo.recipe(arguments.recipe), ["model.pretrained=false", *arguments.set])
    if not experiment.data.classes:
        names = tuple(f"class {number}" for number in range(19))
        experiment = replace(experiment, data=replace(experiment.data, classes=names))
    rows = {"plain": held(experiment, False)}
    if state.num_processes > 1:
        rows["--shard"] = held(experiment, True)
    if state.is_main_process:
        print(f"{arguments.recipe}, {experiment.optim.name}, {state.num_processes} processes; MiB in each")
        print(f"{'':10}{'weights':>10}{'gradients':>11}{'optimizer':>11}{'together':>10}")
        for name, parts in rows.items():
            print(f"{name:10}{parts[0]:10.1f}{parts[1]:11.1f}{parts[2]:11.1f}{sum(parts):10.1f}")
    state.destroy_process_group()


def held(experiment: Experiment, sharded: bool) -> list[float]:
    """MiB of weights, gradients and optimizer state."""
    torch.manual_seed(0)
    network = Segmenter(experiment, initialize=False)
    if sharded:
        mirror = Segmenter(experiment, initialize=False)
        shard(network, torch.device("cpu"), mirror, lambda net: net(torch.zeros(2, 3, 64, 64), coarse=True))
    optimizer = create_optimizer(experiment.optim, network)
    network.train()
    logits = network(torch.randn(2, 3, 64, 64), coarse=True)
    (logits.main.sum() + (0 if logits.aux is None else logits.aux.sum())).backward()
    optimizer.step()
    parameters = list(network.parameters())
    states = [value for one in optimizer.state.values() for value in one.values() if isinstance(value, Tensor)]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    most = torch.tensor([mebibytes(parameters), mebibytes(gradients), mebibytes(states)])
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
    return most.tolist()


def mebibytes(tensors: Iterable[Tensor]) -> float:
    """Of what this process holds of them."""
    return sum(local(tensor).nbytes for tensor in tensors) / 2**20


if __name__ == "__main__":
    main()
