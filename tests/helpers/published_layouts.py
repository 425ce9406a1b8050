"""Names and shapes of published checkpoints, and the part of MMSegmentation's forward pass that others share."""

from forward_passes import bottleneck_keys, conv, norm, norm_keys
from torch.nn import functional

R50, R101 = (3, 4, 6, 3), (3, 4, 23, 3)


def backbone_keys(blocks):
    for index, (outer, inner) in zip((0, 3, 6), ((32, 3), (32, 32), (64, 32)), strict=True):
        yield f"backbone.stem.{index}.weight", (outer, inner, 3, 3)
        yield from norm_keys(f"backbone.stem.{index + 1}", outer)
    parts = [(f"conv{number}", f"bn{number}") for number in (1, 2, 3)]
    shortcut = ("downsample.0", "downsample.1")
    yield from bottleneck_keys(blocks, 64, "backbone.layer{}.{}".format, parts, shortcut, norm_keys)


def conv_keys(prefix, outer, inner):
    yield f"{prefix}.conv.weight", (outer, inner, 3, 3)
    yield from norm_keys(f"{prefix}.bn", outer)


def mmseg_keys(blocks, classes=19, channels=512, aux_channels=256):
    """Names and shapes of a CCNet checkpoint."""
    head, aux = "decode_head", "auxiliary_head"
    keys = dict(backbone_keys(blocks))
    keys |= {f"{head}.conv_seg.weight": (classes, channels, 1, 1), f"{head}.conv_seg.bias": (classes,)}
    keys |= dict(conv_keys(f"{head}.convs.0", channels, 2048))
    keys |= dict(conv_keys(f"{head}.convs.1", channels, channels))
    keys |= dict(conv_keys(f"{head}.conv_cat", channels, 2048 + channels))
    for name, outer in (("query", channels // 8), ("key", channels // 8), ("value", channels)):
        keys |= {f"{head}.cca.{name}_conv.weight": (outer, channels, 1, 1), f"{head}.cca.{name}_conv.bias": (outer,)}
    keys[f"{head}.cca.gamma.scale"] = ()
    keys |= {f"{aux}.conv_seg.weight": (classes, aux_channels, 1, 1), f"{aux}.conv_seg.bias": (classes,)}
    return keys | dict(conv_keys(f"{aux}.convs.0", aux_channels, 1024))


def conv_norm_relu(tensors, key, x):
    return norm(tensors, f"{key}.bn", conv(tensors, f"{key}.conv", x)).relu()


def bottleneck(tensors, key, x, stride, dilation):
    out = norm(tensors, f"{key}.bn1", conv(tensors, f"{key}.conv1", x)).relu()
    out = norm(tensors, f"{key}.bn2", conv(tensors, f"{key}.conv2", out, stride, dilation)).relu()
    out = norm(tensors, f"{key}.bn3", conv(tensors, f"{key}.conv3", out))
    if f"{key}.downsample.0.weight" in tensors:
        x = norm(tensors, f"{key}.downsample.1", conv(tensors, f"{key}.downsample.0", x, stride))
    return (out + x).relu()


def resnet(tensors, x):
    """The maps of the third and fourth layer, both at stride 8."""
    for index, stride in ((0, 2), (3, 1), (6, 1)):
        x = norm(tensors, f"backbone.stem.{index + 1}", conv(tensors, f"backbone.stem.{index}", x, stride)).relu()
    x = functional.max_pool2d(x, 3, 2, 1)
    maps = []
    # Stride and dilation of the first block, dilation of the later ones.
    for layer, (stride, first, later) in enumerate(((1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)), 1):
        block = 0
        while f"backbone.layer{layer}.{block}.conv1.weight" in tensors:
            strided = (stride, first) if block == 0 else (1, later)
            x = bottleneck(tensors, f"backbone.layer{layer}.{block}", x, *strided)
            block += 1
        maps.append(x)
    return maps[2], maps[3]


def classifier_keys(prefix, outer, inner):
    return {f"{prefix}.weight": (outer, inner, 1, 1), f"{prefix}.bias": (outer,)}


def projection_keys(names, channels):
    query, key, value = names
    keys = classifier_keys(query, channels // 8, channels) | classifier_keys(key, channels // 8, channels)
    return keys | classifier_keys(value, channels, channels)


def without_counter(prefix, channels):
    return norm_keys(prefix, channels, counter=False)


def authors_keys(blocks, classes=19, channels=512, aux_channels=512):
    keys = {}
    for index, (outer, inner) in enumerate(((64, 3), (64, 64), (128, 64)), 1):
        keys |= {f"conv{index}.weight": (outer, inner, 3, 3), **dict(without_counter(f"bn{index}", outer))}
    parts = [(f"conv{number}", f"bn{number}") for number in (1, 2, 3)]
    shortcut = ("downsample.0", "downsample.1")
    keys |= dict(bottleneck_keys(blocks, 128, "layer{}.{}".format, parts, shortcut, without_counter))
    for name, inner in (("conva", 2048), ("convb", channels), ("bottleneck", 2048 + channels)):
        keys |= {f"head.{name}.0.weight": (channels, inner, 3, 3)}
        keys |= dict(without_counter(f"head.{name}.1", channels))
    keys |= projection_keys([f"head.cca.{name}_conv" for name in ("query", "key", "value")], channels)
    keys |= {"head.cca.gamma": (1,)} | classifier_keys("head.bottleneck.3", classes, channels)
    keys |= {"dsn.0.weight": (aux_channels, 1024, 3, 3), "dsn.0.bias": (aux_channels,)}
    return keys | dict(without_counter("dsn.1", aux_channels)) | classifier_keys("dsn.3", classes, aux_channels)


def with_both_signs(tensors):
    """In-place norms are trained without a sign: every third scale is negative."""
    for key, entry in tensors.items():
        if key.endswith(".weight") and entry.dim() == 1:
            entry[::3] *= -1
    return tensors
