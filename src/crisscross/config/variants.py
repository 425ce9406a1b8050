"""How the networks of different publishers differ: what each value of `model.variant` means."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Variant:
    """The details in which one publisher's CCNet differs from another's.

    Attributes:
        contract_dilation: the first block of a dilated ResNet stage has the dilation of the stage before.
        pool_shortcut: dilated stages of timm's ResNet-D average 2 x 2 in their shortcuts.
        ceil_pool: the size after a ResNet's max-pooling is rounded up: 1024 gives 257, not 256.
        norm: `batch`, or `absolute`, which scales by |weight| + 1e-5 as in-place batch norm does.
        around: activation of the head's convolutions before and after the attention: `relu` or `leaky_relu`.
        after: activation of the head's last 3 x 3 convolution and of the auxiliary head.
        aux_bias: the 3 x 3 convolution of the auxiliary head has a bias.
        fuse_bias: the head's last 3 x 3 convolution has a bias.
    """

    contract_dilation: bool = True
    pool_shortcut: bool = True
    ceil_pool: bool = False
    norm: str = "batch"
    around: str = "relu"
    after: str = "relu"
    aux_bias: bool = False
    fuse_bias: bool = False


VariantName = Literal["mmseg", "authors", "paddleseg"]
# MMSegmentation's, which SSSegmentation shares; that of the authors' repository; PaddleSeg's.
VARIANTS: dict[str, Variant] = {
    "mmseg": Variant(),
    "authors": Variant(
        contract_dilation=False,
        ceil_pool=True,
        norm="absolute",
        around="leaky_relu",
        after="leaky_relu",
        aux_bias=True,
    ),
    "paddleseg": Variant(
        contract_dilation=False,
        pool_shortcut=False,
        around="leaky_relu",
        aux_bias=True,
        fuse_bias=True,
    ),
}
