"""From feature maps to class logits."""

from collections.abc import Sequence

from crisscross.config import ModelConfig
from crisscross.errors import CrissCrossError
from crisscross.models.heads.ccnet import AuxiliaryHead, CrissCrossContext, CrissCrossHead
from crisscross.models.heads.ce2p import CE2PHead, ParsingLogits

__all__ = ["AuxiliaryHead", "CE2PHead", "CrissCrossContext", "CrissCrossHead", "ParsingLogits", "create_head"]

# Where CE2P's high-resolution branch and its edges lie.
FINE_STRIDE = 4


def create_head(
    model: ModelConfig, channels: Sequence[int], strides: Sequence[int], classes: int, embedding: int = 0
) -> CrissCrossHead | CE2PHead:
    """The head that `model.head` names.

    Args:
        model: the configuration.
        channels: of the backbone's maps, fine to coarse.
        strides: of the same maps.
        classes: number of classes K.
        embedding: channels for the category-consistent loss; 0 = none.

    Raises:
        CrissCrossError: `ce2p` on a backbone without a map of stride 4.
    """
    last, width = channels[-1], model.channels
    attention = (model.recurrence, model.reduction)
    kind = (model.activation, model.norm)
    if model.head == "ccnet":
        fuse_bias = model.fuse_bias
        return CrissCrossHead(last, classes, width, *attention, model.dropout, *kind, fuse_bias, embedding)
    if FINE_STRIDE not in strides:
        raise CrissCrossError(
            f"model.head=ce2p needs a feature map of stride {FINE_STRIDE}; backbone {model.backbone} has strides "
            f"{', '.join(map(str, strides))}: choose another backbone or model.head=ccnet"
        )
    # The deepest of the maps with that stride.
    first = len(strides) - 1 - list(reversed(strides)).index(FINE_STRIDE)
    return CE2PHead(
        channels[first:],
        classes,
        CrissCrossContext(last, width, *attention, *kind, model.fuse_bias),
        width,
        model.dropout,
        model.edge,
        model.align_corners,
        *kind,
        embedding,
    )
