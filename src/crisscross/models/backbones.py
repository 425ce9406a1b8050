"""timm's feature networks (and a user's own) behind one small contract.

A backbone has `channels` and `strides`, both fine to coarse, and its forward takes [B, 3, H, W] and returns a tuple of
that many feature maps [B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])]. In the variant `authors` the maps
after a ResNet's max-pooling are those of an image one stride larger where a size is even: 1024 gives 257 and 129, not
256 and 128. Networks without padding in some convolutions (Inception) give maps that are one or two smaller.

Many networks take no sides but multiples of 32 (or of their windows): they see the image filled up at the right and at
the bottom with the mean color, which is 0 after normalization, and what their maps have beyond the image is cut off.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Self

from torch import Tensor, nn

from crisscross.config import hint, import_attribute
from crisscross.config.variants import VARIANTS, Variant
from crisscross.errors import CrissCrossError
from crisscross.layers.feature_maps import LARGEST_STRIDE, DeclaredMaps, crop_maps, find_maps, pad_images
from crisscross.models.pretrained import NoPretrained, pretrained_options
from crisscross.models.resnet_variants import apply_variant
from crisscross.models.small_backbone import SmallBackbone

# Backbones of our own, by name.
OURS = {"small": SmallBackbone}
# What timm raises where it cannot build a network, or not fetch its weights.
REFUSALS = (TypeError, AssertionError, NotImplementedError, RuntimeError, AttributeError, ValueError, OSError)


class Backbone(nn.Module):
    """A network with feature maps, tried once so that its channels and strides are known facts.

    Args:
        net: module that maps [B, 3, H, W] to a list or tuple of feature maps, fine to coarse.
        name: used in messages.
        declared: what the network declares about its maps.

    Raises:
        CrissCrossError: it gives no feature maps, or takes images of one size alone.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    frozen: list[nn.Module]

    def __init__(self, net: nn.Module, name: str, declared: DeclaredMaps | None = None) -> None:
        super().__init__()
        self.net = net
        self.name, self.frozen = name, []
        self.facts = find_maps(net, name, declared)
        self.channels, self.strides = self.facts.channels, self.facts.strides

    def freeze(self, names: Iterable[str]) -> None:
        """Keep weights and statistics of these modules of the network for good.

        Raises:
            CrissCrossError: there is no module of that name.
        """
        modules = dict(self.net.named_modules())
        for name in names:
            if not name or name not in modules:
                known = ", ".join(key for key in modules if key and key.count(".") < 2)
                raise CrissCrossError(f"model.frozen: backbone {self.name} has no module {name!r}; it has {known}")
            self.frozen.append(modules[name].requires_grad_(False))
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Training mode for everything that is not frozen."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps, fine to coarse, of a normalized image [B, 3, H, W]."""
        return crop_maps(self.net(pad_images(x, self.facts)), x.shape[-2:], self.facts)


def create_backbone(
    name: str, output_stride: int = 8, pretrained: bool = False, variant: Variant = VARIANTS["mmseg"]
) -> Backbone:
    """Build a backbone at an output stride.

    Args:
        name: a timm model with `features_only` support (`resnet50c` is the published one), `small` (of `crisscross
            demo`: it sees 31 x 31 pixels), or `package.module:attribute`, called with `output_stride` and returning a
            module as `Backbone` wants it.
        output_stride: 8, 16 or 32; the stride of the last feature map.
        pretrained: load timm's own weights (needs the network or timm's cache).
        variant: a publisher's details of a timm ResNet. The strides stay the nominal ones.

    Raises:
        CrissCrossError: unknown name, no feature maps, the output stride is not available, or the variant has no
            meaning for this backbone.
    """
    net: Any = create_backbone_network(name, output_stride, pretrained)
    backbone = Backbone(net, name, _declared(net) if hasattr(net, "pretrained_cfg") else None)
    if (reached := backbone.strides[-1]) != output_stride:
        raise CrissCrossError(
            f"backbone {name} gives output stride {reached}, not {output_stride}; {_instead(reached)}"
        )
    # After the probe: its strides are those of the ordinary pooling.
    apply_variant(net, name, variant)
    return backbone


def create_backbone_network(name: str, output_stride: int, pretrained: bool = False) -> nn.Module:
    """The network inside of a `Backbone`; arguments and errors as in `create_backbone`."""
    if name in OURS:
        if pretrained:
            raise NoPretrained(name, "it has none")
        return OURS[name](output_stride)
    if ":" in name:
        return _own_network(name, output_stride)
    return _timm_network(name, output_stride, pretrained)


class NoBackbone(nn.Module):
    """In the place of a backbone where `model.network` is the whole network: its one feature map is the image."""

    channels, strides = (3,), (1,)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Identity()

    def freeze(self, names: Iterable[str]) -> None:
        """There is nothing to freeze.

        Raises:
            CrissCrossError: a name is given.
        """
        if given := list(names):
            raise CrissCrossError(f"model.frozen must be empty with model.network, which has no backbone, got {given}")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """[B, 3, H, W] -> the same, alone."""
        return (x,)


def load_backbone_weights(backbone: Backbone | NoBackbone, weights: Mapping[str, Tensor], source: str) -> None:
    """Fill a backbone from a whole-network or feature-network state dict in timm's names.

    Entries that the feature network does not use (classifier, last stages) are passed over; everything that it needs
    must be there with its shape.

    Raises:
        CrissCrossError: a needed tensor is missing or has another shape; `source` is named.
    """
    # timm flattens module names of some feature networks (stages.0 becomes stages_0), and puts others into `model`.
    given = {key.replace(".", "_"): value for key, value in weights.items()}
    needed = backbone.net.state_dict()
    if not needed:
        raise CrissCrossError(f"{source}: there is no backbone to fill: model.network is a whole network")
    chosen = {}
    for key, value in needed.items():
        flat = key.replace(".", "_")
        found = given.get(flat, given.get(flat.removeprefix("model_")))
        if found is None and key.endswith("num_batches_tracked"):
            found = value
        if found is None:
            raise CrissCrossError(f"{source}: not weights of this backbone: {key} is missing")
        if found.shape != value.shape:
            shapes = f"{tuple(found.shape)}, the backbone needs {tuple(value.shape)}"
            raise CrissCrossError(f"{source}: not weights of this backbone: {key} has shape {shapes}")
        chosen[key] = found
    backbone.net.load_state_dict(chosen)


def _timm_network(name: str, output_stride: int, pretrained: bool) -> nn.Module:
    import timm

    if not timm.is_model(name):
        near = hint(name, timm.list_models())
        raise CrissCrossError(
            f"unknown backbone {name}; {near if near.startswith('did') else 'see timm.list_models()'}"
        )
    weights = pretrained_options(name) if pretrained else {}
    options: dict[str, Any] = {} if output_stride == LARGEST_STRIDE else {"output_stride": output_stride}
    try:
        return _create(name, pretrained, **options, **weights)
    except REFUSALS as error:
        return _otherwise(name, output_stride, pretrained, error, weights)


def _create(name: str, pretrained: bool, **options: Any) -> nn.Module:
    """timm's feature network; transformers that were made for one size of images take all, where timm can do that."""
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        try:
            return timm.create_model(name, pretrained, features_only=True, dynamic_img_size=True, **options)
        except TypeError:
            # This one has no such option, or not the others.
            pass
    return timm.create_model(name, pretrained, features_only=True, **options)


def _declared(net: Any) -> DeclaredMaps:
    """What timm says of a feature network."""
    config = net.pretrained_cfg
    side, fixed = config["input_size"][-1], bool(config.get("fixed_input_size"))
    return DeclaredMaps(net.feature_info.channels(), net.feature_info.reduction(), side, fixed)


def _instead(stride: int) -> str:
    """What to do where a network has this stride and no other."""
    other = "choose another backbone"
    return f"set model.output_stride={stride} or {other}" if stride in (8, 16, LARGEST_STRIDE) else other


def _otherwise(
    name: str, output_stride: int, pretrained: bool, error: Exception, weights: Mapping[str, Any]
) -> nn.Module:
    """The network without the option, where that has the stride; else timm's many ways of saying no in one line."""
    try:
        plain: Any = _create(name, False)
    except Exception as none:
        raise CrissCrossError(f"backbone {name} has no feature maps in timm ({none}); choose another one") from None
    natural = plain.feature_info.reduction()[-1]
    options = {} if output_stride in (natural, LARGEST_STRIDE) else {"output_stride": output_stride}
    try:
        net = _create(name, False, **options)
    except REFUSALS:
        raise CrissCrossError(
            f"backbone {name} cannot run at output stride {output_stride} ({_line(error)}), only at {natural}; "
            f"{_instead(natural)}"
        ) from None
    if not pretrained:
        return net
    try:
        return _create(name, True, **options, **weights)
    except REFUSALS as missing:
        raise NoPretrained(name, _line(missing)) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _own_network(name: str, output_stride: int) -> nn.Module:
    factory = import_attribute(name, "model.backbone")
    try:
        net = factory(output_stride=output_stride)
    except TypeError as error:
        raise CrissCrossError(f"model.backbone {name}: must take output_stride=...: {error}") from error
    if not isinstance(net, nn.Module):
        raise CrissCrossError(f"model.backbone {name}: must return a torch module, got {type(net).__name__}")
    return net
