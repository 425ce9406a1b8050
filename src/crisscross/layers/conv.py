"""Convolution, batch norm and activation, initialized as the published heads are."""

from torch import Tensor, nn

from crisscross.layers.norm import AbsoluteBatchNorm2d

# By the names of `ModelConfig.norm` and `ModelConfig.activation`.
NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm2d, "absolute": AbsoluteBatchNorm2d}
# torch's slope of a leaky ReLU is the published 0.01.
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


class ConvNormAct(nn.Module):
    """`kernel_size` convolution ('same' padding), batch norm and activation: [B, in, H, W] -> [B, out, H, W].

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd.
        norm: `batch`, or `absolute` (see `AbsoluteBatchNorm2d`).
        activation: `relu` or `leaky_relu` (slope 0.01).
        bias: whether the convolution has one; before a norm it has no effect, but two publishers store it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        norm: str = "batch",
        activation: str = "relu",
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
        self.norm = NORMS[norm](out_channels)
        self.act = ACTIVATIONS[activation](inplace=True)
        nn.init.kaiming_normal_(self.conv.weight, a=0, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H, W]."""
        return self.act(self.norm(self.conv(x)))
