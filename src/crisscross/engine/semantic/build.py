"""The network that a run trains: made, filled with the backbone's weights, settled for this machine."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from crisscross.checkpoints.backbone import read_backbone_weights
from crisscross.checkpoints.warm_start import start_from
from crisscross.config import Experiment
from crisscross.engine.norms import settle_norms
from crisscross.engine.setup import Machine
from crisscross.layers.modes import lay_out
from crisscross.models import Segmenter, create_segmenter
from crisscross.models.backbones import load_backbone_weights
from crisscross.speed.memory import apply_memory


def build_network(
    experiment: Experiment,
    weights: Path | None,
    resume: bool,
    machine: Machine,
    accelerator: Accelerator,
    init: str | None = None,
) -> tuple[Segmenter, dict[str, Any], str]:
    """The network on its device, facts to store about its weights, and one line to show, or "".

    Args:
        experiment: with the classes of the data.
        weights: a local file of backbone weights, or None for timm's own.
        resume: all weights are filled in afterwards, so none are fetched.
        machine: whether to compile.
        accelerator: device and processes.
        init: a trained network whose weights are the start, as in `crisscross.checkpoints.warm_start`.

    Raises:
        CrissCrossError: the backbone cannot be built, or the weights do not fit it.
    """
    facts: dict[str, Any] = {}
    segmenter = create_segmenter(experiment, initialize=not resume and weights is None and init is None)
    if weights is not None and not resume:
        load_backbone_weights(segmenter.backbone, read_backbone_weights(weights), str(weights))
        facts["backbone_weights"] = {"file": weights.name, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    if init is not None and not resume:
        facts |= start_from(segmenter, init)
    on_gpu = accelerator.device.type == "cuda"
    network, line = settle_norms(segmenter, experiment.train.batch_norm, accelerator.num_processes, on_gpu)
    assert isinstance(network, Segmenter)
    lines = (line, apply_memory(network, experiment.train))
    network = network.to(accelerator.device)
    lay_out(network, torch.channels_last)
    if machine.compile:
        network.compile()
    return network, facts, "; ".join(filter(None, lines))
