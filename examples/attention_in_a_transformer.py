"""Criss-cross attention in transformers from timm: a Swin stage (channels last) and a ViT block (tokens).

    python examples/attention_in_a_transformer.py

Swin's windows of 4 x 4 hide positions from each other; criss-cross attention carries what one row and one column know.
"""

import timm
import torch
from torch import Tensor, nn

from crisscross.surgery import insert_attention, inserted_attention

SIZE = 128
swin = {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8), "window_size": 4}
vit = {"embed_dim": 48, "depth": 3, "num_heads": 3}
# name, settings that make it small, the place, and how features stand there.
NETWORKS = [
    ("swin_tiny_patch4_window7_224", swin, "layers.1", {"layout": "nhwc"}),
    ("vit_tiny_patch16_224", vit, "blocks.1", {"layout": "tokens", "prefix_tokens": 1}),
]


def reach(network: nn.Module, place: str, images: Tensor) -> float:
    """Which part of an image the features after `place`, in the image's middle, depend on."""
    seen: list[Tensor] = []
    handle = network.get_submodule(place).register_forward_hook(lambda _, inputs, output: seen.append(output))
    images = images.clone().requires_grad_()
    network(images)
    handle.remove()
    (features,) = seen
    middle = features[0, features.shape[1] // 2]
    (middle[len(middle) // 2] if features.dim() == 4 else middle).sum().backward()
    assert images.grad is not None
    return (images.grad[0].abs().sum(0) > 0).float().mean().item()


for name, small, place, layout in NETWORKS:
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, img_size=SIZE, num_classes=10, **small).eval()
    images = torch.randn(2, 3, SIZE, SIZE)
    before, seen_before = network(images), reach(network, place, images)

    insert_attention(network, after=place, example_inputs=images, **layout)
    (inserted,) = inserted_attention(network).values()
    print(f"{name}: unchanged at the start: {torch.equal(network(images), before)}")

    nn.functional.cross_entropy(network(images), torch.tensor([3, 7])).backward()
    gamma = inserted.attention.gamma
    assert gamma.grad is not None
    print(f"  gradient of the gate: {gamma.grad.item():+.2e}")
    nn.init.ones_(gamma)
    print(f"  seen of the image: {seen_before:.0%} before, {reach(network, place, images):.0%} with an open gate")
