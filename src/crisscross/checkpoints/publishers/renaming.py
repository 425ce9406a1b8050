"""Names of tensors, there and back: what the key adapters of all publishers share."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from crisscross.config import DataConfig, Experiment
from crisscross.config.heads import AuxHeadConfig, CCNetConfig
from crisscross.data.palette import default_names, default_palette
from crisscross.errors import CrissCrossError

GAMMA = "head.attend.attention.gamma"
COUNTER = "num_batches_tracked"
# Our module -> one name for the parts of a CCNet's heads, so that a publisher's table is a row of names.
HEAD_PARTS = {
    "head.reduce.conv.": "reduce",
    "head.reduce.norm.": "reduce norm",
    "head.attend.attention.query.": "query",
    "head.attend.attention.key.": "key",
    "head.attend.attention.value.": "value",
    GAMMA: "gamma",
    "head.refine.conv.": "refine",
    "head.refine.norm.": "refine norm",
    "head.fuse.conv.": "fuse",
    "head.fuse.norm.": "fuse norm",
    "head.classify.": "classify",
    "aux_head.reduce.conv.": "aux",
    "aux_head.reduce.norm.": "aux norm",
    "aux_head.classify.": "aux classify",
}
# Our module -> one name for the parts of a deep stem.
STEM_PARTS = {
    f"backbone.net.{ours}.": part
    for ours, part in (
        ("conv1.0", "first"),
        ("conv1.1", "first norm"),
        ("conv1.3", "second"),
        ("conv1.4", "second norm"),
        ("conv1.6", "third"),
        ("bn1", "third norm"),
    )
}


class Names:
    """A one-to-one table of names: the longest prefix that ends at a dot decides, the whole name before all.

    Args:
        parts: part of `HEAD_PARTS` or `STEM_PARTS` -> their prefix (or their whole name of `gamma`).
        others: their prefix -> ours, for everything else.
        leaves: their last word -> ours, where it differs (`_mean` -> `running_mean`).
    """

    def __init__(
        self, parts: Mapping[str, str], others: Mapping[str, str], leaves: Mapping[str, str] | None = None
    ) -> None:
        known = {parts[part]: ours for ours, part in (HEAD_PARTS | STEM_PARTS).items()}
        self.to_ours = {**others, **known}
        self.to_theirs = {ours: theirs for theirs, ours in self.to_ours.items()}
        self.leaves = dict(leaves or {})
        self.leaves_back = {ours: theirs for theirs, ours in self.leaves.items()}

    def ours(self, key: str) -> str:
        """Our name of one of their tensors; unknown names are kept."""
        return _replaced(key, self.to_ours, self.leaves)

    def theirs(self, key: str) -> str:
        """Their name of one of ours."""
        return _replaced(key, self.to_theirs, self.leaves_back)


def _replaced(key: str, prefixes: Mapping[str, str], leaves: Mapping[str, str]) -> str:
    if key in prefixes:
        return prefixes[key]
    end = len(key)
    while (end := key.rfind(".", 0, end)) >= 0:
        if (prefix := key[: end + 1]) in prefixes:
            path, dot, leaf = (prefixes[prefix] + key[end + 1 :]).rpartition(".")
            return f"{path}{dot}{leaves.get(leaf, leaf)}"
    return key


def our_tensors(tensors: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Their tensors in our names: gamma without dimensions, and a counter for every norm that was stored without."""
    ours = {names.ours(key): value for key, value in tensors.items()}
    if GAMMA in ours and ours[GAMMA].numel() == 1:
        ours[GAMMA] = ours[GAMMA].reshape(())
    for key in [key for key in ours if key.endswith(".running_mean")]:
        ours.setdefault(f"{key.removesuffix('running_mean')}{COUNTER}", torch.tensor(0))
    return ours


def their_tensors(
    tensors: Mapping[str, Tensor], names: Names, gamma: tuple[int, ...], counters: bool
) -> dict[str, Tensor]:
    """Our tensors in their names, with gamma in their shape, and with the norms' counters or without."""
    kept = {key: value for key, value in tensors.items() if counters or not key.endswith(COUNTER)}
    return {names.theirs(key): value.reshape(gamma) if key == GAMMA else value for key, value in kept.items()}


def describe(
    tensors: Mapping[str, Tensor], names: Names, stage: str, backbones: Mapping[int, str], experiment: Experiment
) -> Experiment:
    """`experiment` with what the shapes of their tensors tell: backbone, widths, number of classes.

    Args:
        tensors: in their names.
        names: their table.
        stage: what the names of the third stage's blocks begin with; the block's number follows.
        backbones: blocks in the third stage -> timm's name.
        experiment: what is known about this publisher's networks.

    Raises:
        CrissCrossError: a tensor that tells is missing.
    """
    query = _needed(tensors, names, "head.attend.attention.query.weight").shape
    classes = _needed(tensors, names, "head.classify.weight").shape[0]
    auxiliary = "aux_head.classify.weight"
    aux = _needed(tensors, names, auxiliary) if names.theirs(auxiliary) in tensors else None
    numbers = [key.removeprefix(stage).split(".")[0] for key in tensors if key.startswith(stage)]
    blocks = 1 + max((int(number) for number in numbers if number.isdecimal() and len(number) < 4), default=-1)
    model = replace(
        experiment.model,
        backbone=backbones.get(blocks, f"resnet with {blocks} blocks in layer 3"),
        head=CCNetConfig(channels=query[1], reduction=query[1] // query[0]),
        aux_head=AuxHeadConfig(0 if aux is None else aux.shape[1]),
    )
    data = DataConfig(classes=default_names(classes), palette=default_palette(classes))
    return replace(experiment, model=model, data=data)


def _needed(tensors: Mapping[str, Tensor], names: Names, ours: str) -> Tensor:
    key = names.theirs(ours)
    if key not in tensors:
        raise CrissCrossError(f"an incomplete CCNet: {key} is missing")
    shape = list(tensors[key].shape)
    if len(shape) != 4 or 0 in shape:
        raise CrissCrossError(f"{key} has shape {shape}, not that of a convolution")
    return tensors[key]
