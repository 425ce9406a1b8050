"""Criss-cross attention inserted into torchvision's FCN, in the third stage of its backbone.

python examples/attention_in_a_torchvision_fcn.py
"""

import torch
from torch import nn
from torchvision.models.segmentation import fcn_resnet50

from crisscross.surgery import insert_attention, inserted_attention

torch.manual_seed(0)
network = fcn_resnet50(weights=None, weights_backbone=None, num_classes=4).eval()
images = torch.randn(2, 3, 64, 96)
before = network(images)["out"]
pretrained = network.state_dict()

insert_attention(network, after="backbone.layer3.4", memory="lean")
# A hook calls the attention, so every name stays, and weights without it still load with strict=True.
network.load_state_dict(pretrained)
# The gate gamma starts at 0: the network is unchanged until training opens it, so pretrained weights stay good.
print("unchanged at the start:", torch.equal(network(images)["out"], before))

(inserted,) = inserted_attention(network).values()
network.requires_grad_(False)
optimizer = torch.optim.SGD(inserted.requires_grad_().parameters(), lr=0.01)
labels = torch.randint(4, (2, 64, 96))
for _ in range(3):
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(images)["out"], labels).backward()
    optimizer.step()
print(f"gate after three steps: {inserted.attention.gamma.item():+.4f}")
