"""CCNet's head with a feature pyramid: against its definition, and through what a network meets."""

import pytest
import torch
import torch.nn.functional as F
from clip_networks import network
from torch import Tensor, nn

import crisscross
from crisscross import CrissCrossError, Experiment
from crisscross.checkpoints.warm_start import start_from
from crisscross.config import override
from crisscross.config.heads import CCNetConfig
from crisscross.models.heads import HeadInputs
from crisscross.models.heads.ccnet import CrissCrossHead
from crisscross.ops import criss_cross_attention_reference
from crisscross.zoo import RECIPES, recipe

pytestmark = pytest.mark.usefixtures("one_thread")
PYRAMID = {"model.head.pyramid": 5}


def drawn_weights(module: nn.Module) -> nn.Module:
    """Statistics, shifts and gates that matter."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.dim() == 1 and tensor.is_floating_point():
            nn.init.uniform_(tensor.data, 0.5, 1.5, generator)
        elif "classify" in name:
            nn.init.normal_(tensor.data, 0, 0.5, generator)
    return module


def literal(state: dict[str, Tensor], maps: list[Tensor], corners: bool) -> Tensor:
    """CCNet's head and the pyramid behind it: plain calls and names of tensors, no module of ours."""

    def block(name: str, x: Tensor) -> Tensor:
        mean, var, scale, shift = (
            state[f"{name}.norm.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        x = F.conv2d(x, state[f"{name}.conv.weight"], padding=1)
        return F.relu(F.batch_norm(x, mean, var, scale, shift))

    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def up(x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=corners)

    stride4, stride8, x = maps
    h = block("reduce", x)
    for _ in range(2):
        q, k, v = (conv(f"attend.attention.{name}", h) for name in ("query", "key", "value"))
        h = h + state["attend.attention.gamma"] * criss_cross_attention_reference(q, k, v)
    context = block("fuse", torch.cat([x, block("refine", h)], 1))
    p5 = conv("pyramid.lateral.2", context)
    p3 = conv("pyramid.lateral.1", stride8) + up(p5, stride8)
    p2 = conv("pyramid.lateral.0", stride4) + up(p3, stride4)
    wide = block("pyramid.smooth.1", p3) + up(block("pyramid.smooth.2", p5), p3)
    return conv("classify", block("pyramid.smooth.0", p2) + up(wide, p2))


@pytest.mark.parametrize("corners", [False, True])
def test_the_head_is_the_literal_one(corners):
    torch.manual_seed(1)
    given = HeadInputs([3, 6, 7, 14, 20], [2, 4, 4, 8, 16], 5, align_corners=corners)
    head = drawn_weights(CrissCrossHead(CCNetConfig(channels=32, pyramid=12), given).double().eval())
    sizes = [(3, 34, 26), (6, 17, 13), (7, 17, 13), (14, 9, 7), (20, 5, 4)]
    maps = [torch.randn(2, *size, dtype=torch.float64) for size in sizes]
    with torch.no_grad():
        found, state = head(maps).main, head.state_dict()
        assert found.shape == (2, 5, 17, 13)
        # The deepest of the maps of stride 4 is the first one.
        torch.testing.assert_close(found, literal(state, maps[2:], corners), rtol=1e-9, atol=1e-9)
        assert (found - literal(state, maps[2:], not corners)).abs().max() > 1e-3
        for place in (2, 3, 4):
            without = [*maps[2:place], 0 * maps[place], *maps[place + 1 :]]
            assert (found - literal(state, without, corners)).abs().max() > 1e-3


def test_a_backbone_without_a_map_of_stride_4_is_one_clear_line():
    wanted = (
        r"^model\.head\.pyramid=4 needs a feature map of stride 4, and the backbone's have 8, 16: choose another "
        r"backbone or model\.head\.pyramid=0$"
    )
    with pytest.raises(CrissCrossError, match=wanted):
        CrissCrossHead(CCNetConfig(channels=32, pyramid=4), HeadInputs([8, 16], [8, 16], 5))


@pytest.mark.parametrize("labeled", [(1,), (0, 1, 2)])
def test_frames_of_a_clip_keep_their_own_finer_maps(labeled):
    given = HeadInputs([6, 20], [4, 8], 5, frames=3, labeled=labeled)
    head = drawn_weights(CrissCrossHead(CCNetConfig(channels=32, pyramid=4), given).double().eval())
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
    segmenter = drawn_weights(network(0, **PYRAMID)).eval()
    crisscross.save(segmenter, tmp_path / "pyramid.safetensors")
    x = torch.randn(1, 3, 65, 49)
    with torch.no_grad():
        expected = segmenter(x).main
        assert torch.equal(crisscross.load(tmp_path / "pyramid.safetensors")(x).main, expected)
        rewritten = crisscross.optimize(segmenter)
        torch.testing.assert_close(rewritten(x).main, expected, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in rewritten.modules())


@pytest.mark.parametrize(("theirs", "ours"), [(0, 5), (5, 0)])
def test_weights_of_the_other_kind_are_no_start_and_say_what_to_do(tmp_path, theirs, ours):
    crisscross.save(network(0, **{"model.head.pyramid": theirs}), tmp_path / "other.safetensors")
    wanted = rf"other\.safetensors: .*; for the network of these weights add --set model\.head\.pyramid={theirs}"
    with pytest.raises(CrissCrossError, match=wanted):
        start_from(network(0, **{"model.head.pyramid": ours}), tmp_path / "other.safetensors")


def test_weights_for_images_start_a_network_for_clips(tmp_path):
    images, clips = drawn_weights(network(0, **PYRAMID)), network(3, **PYRAMID)
    crisscross.save(images, tmp_path / "images.safetensors")
    start_from(clips, tmp_path / "images.safetensors")
    given, taken = images.state_dict(), clips.state_dict()
    pyramid = [key for key in given if ".pyramid." in key or ".classify." in key]
    assert len(pyramid) > 20 and all(torch.equal(given[key], taken[key]) for key in pyramid)


def test_the_title_tells_it():
    plain, pyramid = Experiment(), override(Experiment(), ["model.head.pyramid=64"])
    assert plain.model.title == "CCNet (R = 2) on resnet50c at output stride 8"
    assert pyramid.model.title == "CCNet (R = 2) with a pyramid on resnet50c at output stride 8"


def test_the_light_recipes_have_it_and_the_published_networks_have_not():
    widths = {name: getattr(recipe(name).model.head, "pyramid", 0) for name in RECIPES}
    light = {"ccnet-light", "camvid-light", "camvid-light-baseline", "ccnet3d-light"}
    assert {name for name, width in widths.items() if width} == light
    assert {widths[name] for name in light} == {64}
