"""The backbone of the demo: what it gives, and how little it sees."""

import pytest
import torch

from crisscross.errors import CrissCrossError
from crisscross.models.backbones import create_backbone


@pytest.mark.parametrize(("stride", "strides"), [(8, (4, 8)), (16, (4, 8, 16)), (32, (4, 8, 16, 32))])
def test_maps_go_down_to_the_output_stride(stride, strides):
    backbone = create_backbone("small", stride)
    assert backbone.strides == strides and backbone.channels == (32, 64, 64, 64)[: len(strides)]
    maps = backbone(torch.zeros(1, 3, 70, 33))
    assert [tuple(one.shape[2:]) for one in maps] == [(-(-70 // s), -(-33 // s)) for s in strides]


def test_a_position_sees_31_pixels():
    backbone = create_backbone("small").eval()
    for parameter in backbone.parameters():
        # No path may vanish.
        torch.nn.init.constant_(parameter, 0.1)
    image = torch.ones(1, 3, 96, 96, requires_grad=True)
    backbone(image)[-1][0, :, 6, 6].sum().backward()
    seen = image.grad[0].sum(0) != 0
    assert seen.any(0).sum() == seen.any(1).sum() == 31 and seen.sum() == 31 * 31
    # Around the position's own 8 x 8 pixels.
    assert seen[48 - 15 : 48 + 16, 48 - 15 : 48 + 16].all()


def test_there_are_no_pretrained_weights():
    with pytest.raises(CrissCrossError, match="no pretrained weights for small are available"):
        create_backbone("small", pretrained=True)
