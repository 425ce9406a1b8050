"""Criss-cross attention inside a network that knows nothing of it: a timm ResNet, right before its last stage.

python examples/attention_in_a_strangers_network.py
"""

import timm
import torch
from torch import nn

from crisscross import RecurrentCrissCrossAttention

torch.manual_seed(0)
network = timm.create_model("resnet18", num_classes=10).eval()
pictures = torch.randn(2, 3, 96, 128)
before = network(pictures)

network.layer3 = nn.Sequential(network.layer3, RecurrentCrissCrossAttention(256, memory="lean"))
# The gate gamma starts at 0: the network is unchanged until training opens it, so pretrained weights stay good.
print("unchanged at the start:", torch.equal(network(pictures), before))

optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(pictures), torch.tensor([3, 7])).backward()
    optimizer.step()
print(f"gate after three steps: {network.layer3[1].attention.gamma.item():+.4f}")
