"""CCNet's head with low-level features: against the decoder written out, and through what a network meets."""

import pytest
import torch
import torch.nn.functional as F
from clip_networks import network
from torch import Tensor, nn

import crisscross
from crisscross import CrissCrossError
from crisscross.checkpoints.warm_start import start_from
from crisscross.config.heads import CCNetConfig
from crisscross.models.heads import HeadInputs
from crisscross.models.heads.ccnet import CrissCrossHead
from crisscross.ops import criss_cross_attention_reference

pytestmark = pytest.mark.usefixtures("one_thread")
LOW = {"model.head.low_level": 5}


def drawn_weights(module: nn.Module) -> nn.Module:
    """Statistics, shifts and gates that matter."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.dim() == 1 and tensor.is_floating_point():
            nn.init.uniform_(tensor.data, 0.5, 1.5, generator)
        elif "classify" in name:
            nn.init.normal_(tensor.data, 0, 0.5, generator)
    return module


def literal(state: dict[str, Tensor], x: Tensor, fine: Tensor, corners: bool) -> Tensor:
    """CCNet's head and DeepLabV3+'s decoder behind it: plain calls and names of tensors, no module of ours."""

    def block(name: str, x: Tensor, padding: int) -> Tensor:
        mean, var, scale, shift = (
            state[f"{name}.norm.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        x = F.conv2d(x, state[f"{name}.conv.weight"], padding=padding)
        return F.relu(F.batch_norm(x, mean, var, scale, shift))

    h = block("reduce", x, 1)
    for _ in range(2):
        q, k, v = (
            F.conv2d(h, state[f"attend.attention.{name}.weight"], state[f"attend.attention.{name}.bias"])
            for name in ("query", "key", "value")
        )
        h = h + state["attend.attention.gamma"] * criss_cross_attention_reference(q, k, v)
    context = block("fuse", torch.cat([x, block("refine", h, 1)], 1), 1)
    narrow = F.interpolate(block("decoder.narrow", context, 0), fine.shape[-2:], mode="bilinear", align_corners=corners)
    joined = block("decoder.join", torch.cat([narrow, block("decoder.low_level", fine, 0)], 1), 1)
    return F.conv2d(joined, state["classify.weight"], state["classify.bias"])


@pytest.mark.parametrize("corners", [False, True])
def test_the_head_is_the_literal_one(corners):
    torch.manual_seed(1)
    given = HeadInputs([3, 6, 7, 14, 20], [2, 4, 4, 8, 8], 5, align_corners=corners)
    head = drawn_weights(CrissCrossHead(CCNetConfig(channels=32, low_level=4), given).double().eval())
    sizes = [(3, 34, 26), (6, 17, 13), (7, 17, 13), (14, 9, 7), (20, 9, 7)]
    maps = [torch.randn(2, *size, dtype=torch.float64) for size in sizes]
    with torch.no_grad():
        found, state = head(maps).main, head.state_dict()
        assert found.shape == (2, 5, 17, 13)
        # The deepest of the maps of stride 4 is the one.
        torch.testing.assert_close(found, literal(state, maps[4], maps[2], corners), rtol=1e-9, atol=1e-9)
        assert (found - literal(state, maps[4], maps[2], not corners)).abs().max() > 1e-3
        assert (found - literal(state, maps[4], 0 * maps[2], corners)).abs().max() > 1e-3


def test_a_backbone_without_a_map_of_stride_4_is_one_clear_line():
    wanted = (
        r"^model\.head\.low_level=4 needs a feature map of stride 4, and the backbone's have 8, 16: choose another "
        r"backbone or model\.head\.low_level=0$"
    )
    with pytest.raises(CrissCrossError, match=wanted):
        CrissCrossHead(CCNetConfig(channels=32, low_level=4), HeadInputs([8, 16], [8, 16], 5))
    with pytest.raises(CrissCrossError, match=r"channels must be at least 2 with model\.head\.low_level, got 1$"):
        CCNetConfig(channels=1, reduction=1, low_level=4)


@pytest.mark.parametrize("labeled", [(1,), (0, 1, 2)])
def test_frames_of_a_clip_keep_their_own_low_level_features(labeled):
    given = HeadInputs([6, 20], [4, 8], 5, frames=3, labeled=labeled)
    head = drawn_weights(CrissCrossHead(CCNetConfig(channels=32, low_level=4), given).double().eval())
    maps = [torch.randn(6, *size, dtype=torch.float64) for size in ((6, 12, 16), (20, 6, 8))]
    with torch.no_grad():
        found = head(maps).main
        # Frames that are seen one by one are joined as those of whole clips.
        seen = [head.encode([x[frame : frame + 1] for x in maps]) for frame in range(6)]
        expected = torch.cat([head.decode(seen[:3], labeled), head.decode(seen[3:], labeled)])
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        for frame in range(6):
            changed = maps[0].clone()
            changed[frame] += 1
            moved = (head([changed, maps[1]]).main - found).abs().amax((1, 2, 3)) > 0
            of_it = [clip + place == frame for clip in (0, 3) for place in labeled]
            assert moved.tolist() == of_it


def test_files_and_rewritten_networks_agree(tmp_path):
    segmenter = drawn_weights(network(0, **LOW)).eval()
    crisscross.save(segmenter, tmp_path / "low.safetensors")
    x = torch.randn(1, 3, 65, 49)
    with torch.no_grad():
        expected = segmenter(x).main
        assert torch.equal(crisscross.load(tmp_path / "low.safetensors")(x).main, expected)
        torch.testing.assert_close(crisscross.optimize(segmenter)(x).main, expected, rtol=1e-4, atol=1e-4)


def test_weights_without_it_are_no_start_and_say_what_to_do(tmp_path):
    crisscross.save(network(0), tmp_path / "plain.safetensors")
    wanted = r"plain\.safetensors: .*; for the network of these weights add --set model\.head\.low_level=0"
    with pytest.raises(CrissCrossError, match=wanted):
        start_from(network(0, **LOW), tmp_path / "plain.safetensors")
