"""Backbones of every family at any size of image: strides, filling up to a multiple, and what is refused."""

import pytest
import torch
from networks import narrow
from torch import nn
from torch.nn import functional

from crisscross import Segmenter
from crisscross.config import DataConfig, Experiment, ModelConfig
from crisscross.errors import CrissCrossError
from crisscross.models.backbones import Backbone, create_backbone, load_backbone_weights

pytestmark = pytest.mark.usefixtures("one_thread")

# Architecture, output stride, and what the sides of images are filled up to a multiple of.
QUICK = [
    ("test_resnet", 32, 1),
    ("test_convnext", 32, 32),
    ("test_mambaout", 32, 1),
    ("test_vit", 16, 16),
    ("hrnet_w18_small", 32, 32),
    ("mobilevitv2_050", 32, 64),
]
SLOW = [
    ("resnet18", 8, 1),
    ("resnetv2_18", 8, 1),
    ("skresnet18", 8, 1),
    ("res2net50_26w_4s", 8, 1),
    ("resnest14d", 32, 1),
    ("seresnet18", 8, 1),
    ("legacy_seresnet18", 32, 32),
    ("cspresnet50", 32, 1),
    ("darknet53", 32, 1),
    ("vovnet39a", 32, 32),
    ("ese_vovnet19b_dw", 32, 32),
    ("selecsls42", 32, 1),
    ("dpn48b", 32, 1),
    ("densenet121", 32, 32),
    ("vgg11", 32, 32),
    ("tresnet_m", 32, 32),
    ("repvgg_a0", 32, 1),
    ("mobileone_s0", 32, 1),
    ("gernet_s", 32, 1),
    ("eca_nfnet_l0", 32, 1),
    ("lambda_resnet26t", 32, 32),
    ("halonet26t", 32, 256),
    ("regnety_002", 8, 1),
    ("rexnet_100", 32, 1),
    ("hgnetv2_b0", 32, 1),
    ("efficientnet_b0", 8, 1),
    ("tf_efficientnet_lite0", 8, 1),
    ("mobilenetv2_050", 8, 1),
    ("mobilenetv3_small_050", 8, 1),
    ("mobilenetv4_conv_small_035", 8, 1),
    ("ghostnet_050", 32, 1),
    ("lcnet_035", 8, 1),
    ("mixnet_s", 8, 1),
    ("xception41", 8, 1),
    ("dla34", 32, 32),
    ("convnextv2_atto", 32, 32),
    ("inception_next_atto", 32, 32),
    ("edgenext_xx_small", 32, 32),
    ("poolformer_s12", 32, 32),
    ("caformer_s18", 32, 32),
    ("fastvit_t8", 32, 1),
    ("fasternet_t0", 32, 32),
    ("starnet_s1", 32, 1),
    ("repvit_m0_9", 32, 1),
    ("swiftformer_xs", 32, 1),
    ("efficientvit_b0", 32, 1),
    ("mobilevit_xxs", 32, 1),
    ("pvt_v2_b0", 32, 1),
    ("twins_svt_small", 32, 32),
    ("focalnet_tiny_srf", 32, 32),
    ("davit_tiny", 32, 1),
    ("tiny_vit_5m_224", 32, 1),
    ("swin_tiny_patch4_window7_224", 32, 32),
    ("swinv2_tiny_window8_256", 32, 32),
    ("sam2_hiera_tiny", 32, 32),
    ("maxvit_rmlp_pico_rw_256", 32, 256),
    ("vit_tiny_patch16_224", 16, 16),
    ("deit_tiny_patch16_224", 16, 16),
    ("flexivit_small", 16, 16),
    ("vitamin_small_224", 16, 16),
    ("xcit_nano_12_p16_224", 16, 1),
    ("xcit_nano_12_p8_224", 8, 1),
]
# Made for images of one size, by learned positions or mixing over them, and timm gives them no other.
FIXED = [
    ("hiera_tiny_224", 32, 224),
    ("coatnet_pico_rw_224", 32, 224),
    ("efficientformer_l1", 32, 224),
    ("gcvit_xxtiny", 32, 224),
    ("visformer_tiny", 32, 224),
    ("levit_conv_128s", 32, 224),
    ("pit_ti_224", 32, 224),
    ("coat_tiny", 32, 224),
    ("cait_xxs24_224", 16, 224),
    ("convit_tiny", 16, 224),
    ("volo_d1_224", 16, 224),
    ("gmlp_ti16_224", 16, 224),
    ("nest_tiny", 16, 224),
    ("crossvit_tiny_240", 32, 240),
    ("botnet26t_256", 32, 256),
]


def check(name: str, stride: int, multiple: int) -> None:
    torch.manual_seed(0)
    backbone = create_backbone(name, stride).eval()
    assert (backbone.facts.multiple, backbone.facts.least) == (multiple, 1)
    assert backbone.strides[-1] == stride
    for size in ((65, 129), (50, 99)):
        x = torch.randn(1, 3, *size)
        tall, wide = (-(-side // multiple) * multiple for side in size)
        # The image filled up by hand; of every map what belongs to the image.
        filled = torch.zeros(1, 3, tall, wide)
        filled[..., : size[0], : size[1]] = x
        with torch.no_grad():
            found, whole = backbone(x), backbone.net(filled)
        for entry, large, channels, step in zip(found, whole, backbone.channels, backbone.strides, strict=True):
            height, width = (-(-side // step) for side in size)
            assert entry.shape == (1, channels, height, width)
            large = large if large.shape[1] == channels else large.permute(0, 3, 1, 2)
            torch.testing.assert_close(entry, large[..., :height, :width])


@pytest.mark.parametrize(("name", "stride", "multiple"), QUICK)
def test_any_size_of_image_gives_maps_of_the_contract(name, stride, multiple):
    check(name, stride, multiple)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stride", "multiple"), SLOW)
def test_every_family_takes_any_size(name, stride, multiple):
    check(name, stride, multiple)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stride", "side"), FIXED)
def test_networks_of_one_size_are_refused(name, stride, side):
    words = rf"{name} takes images of {side} x {side} alone, and timm gives it no other sizes; choose another backbone"
    with pytest.raises(CrissCrossError, match=words):
        create_backbone(name, stride)


def test_a_network_that_takes_small_images_alone_is_refused():
    with pytest.raises(CrissCrossError, match="mvitv2_tiny takes no images beyond 224 x 224; choose another backbone"):
        create_backbone("mvitv2_tiny", 32)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inception_v3", "inception_v4", "nasnetalarge", "legacy_xception"])
def test_maps_without_a_border_have_the_strides_that_timm_tells(name):
    """Convolutions without padding: at 96 x 96 Inception's last map is 1 x 1."""
    backbone = create_backbone(name, 32).eval()
    assert backbone.strides == (2, 4, 8, 16, 32)
    with torch.no_grad():
        for side in (33, 99):
            (last,) = backbone(torch.zeros(1, 3, side, side))[-1:]
            assert 1 <= last.shape[-1] <= -(-side // 32) and last.shape[1] == backbone.channels[-1]


@pytest.mark.parametrize(
    ("name", "stride", "words"),
    [
        ("test_vit", 32, r"gives output stride 16, not 32; set model\.output_stride=16 or choose another"),
        ("test_vit", 8, r"cannot run at output stride 8 \(.+\), only at 16; set model\.output_stride=16 or choose"),
        ("test_convnext", 64, r"cannot run at output stride 64 \(.*\), only at 32; set model\.output_stride=32 or"),
        ("shvit_s1", 32, "gives output stride 64, not 32; choose another backbone"),
        ("shvit_s1", 16, r"cannot run at output stride 16 \(.+\), only at 64; choose another backbone"),
    ],
)
def test_advice_leads_to_a_network(name, stride, words):
    with pytest.raises(CrissCrossError, match=words):
        create_backbone(name, stride)


def small(backbone: str, stride: int, **options) -> Segmenter:
    torch.manual_seed(0)
    model = ModelConfig(backbone=backbone, output_stride=stride, **narrow(16, 8), **options)
    made = Segmenter(Experiment(model=model, data=DataConfig(classes=("a", "b", "c"))))
    nn.init.constant_(made.head.attend.attention.gamma, 0.5)
    return made


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("name", "stride"), [("test_convnext", 32), ("test_vit", 16)])
def test_a_network_that_needs_multiples_predicts_and_trains_at_any_size(name, stride, align_corners):
    network, multiple = small(name, stride, align_corners=align_corners).eval(), stride
    image = (torch.arange(70 * 101 * 3) * 37 % 251).to(torch.uint8).view(70, 101, 3)
    x = network.preprocess(image.permute(2, 0, 1))
    right, below = -101 % multiple, -70 % multiple
    with torch.inference_mode():
        maps = network.backbone.net(functional.pad(x, [0, right, 0, below]))
        last = maps[-1][..., : -(-70 // stride), : -(-101 // stride)]
        logits = functional.interpolate(
            network.head([last]).main, (70, 101), mode="bilinear", align_corners=align_corners
        )
        torch.testing.assert_close(network(x).main, logits)
    assert (network.predict(image.numpy()).labels == logits[0].argmax(0).numpy()).mean() > 0.999
    found = network.train()(torch.randn(2, 3, 70, 101))
    (found.main.sum() + found.aux.sum()).backward()
    assert found.main.shape == found.aux.shape == (2, 3, 70, 101)
    assert all(weight.grad.isfinite().all() for weight in network.head.parameters())


@pytest.mark.slow
def test_a_network_that_needs_multiples_exports_with_free_height_and_width():
    network = small("test_convnext", 32).eval()
    free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(network, (torch.randn(1, 3, 72, 88),), dynamic_shapes=(free,), strict=False)
    exported = program.module()
    for size in ((72, 88), (65, 129), (64, 96)):
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(exported(x)[0], network(x).main, rtol=1e-4, atol=1e-5)


class Needy(nn.Module):
    """A network of one's own whose sides must be multiples, or whose first side must be at least something."""

    def __init__(self, stride: int, multiple: int = 1, padding: int = 1) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 4, 3, 4, padding)
        self.coarse = nn.Conv2d(4, 5, 3, stride // 4, padding)
        self.multiple = multiple

    def forward(self, x):
        if any(side % self.multiple for side in x.shape[-2:]):
            raise ValueError("no multiple")
        fine = self.fine(x)
        return fine, self.coarse(fine)


@pytest.mark.parametrize(
    ("stride", "multiple", "filled"), [(16, 1, 1), (8, 2, 32), (32, 32, 32), (16, 64, 64), (20, 1, 1)]
)
def test_a_network_of_ones_own_is_measured(stride, multiple, filled):
    backbone = Backbone(Needy(stride, multiple), "own")
    assert (backbone.strides, backbone.channels, backbone.facts.multiple) == ((4, stride), (4, 5), filled)
    maps = backbone(torch.zeros(1, 3, 45, 70))
    assert [tuple(entry.shape[2:]) for entry in maps] == [(12, 18), (-(-45 // stride), -(-70 // stride))]


def test_a_network_of_ones_own_without_padding():
    assert Backbone(Needy(32, padding=0), "own").strides == (4, 32)


def test_a_network_of_ones_own_that_takes_one_size_says_which_was_tried():
    with pytest.raises(CrissCrossError, match="backbone own cannot take a 96 x 160 image: no multiple"):
        Backbone(Needy(32, 100), "own")


def test_whole_network_weights_fill_a_transformer():
    import timm

    whole, backbone = timm.create_model("test_vit"), create_backbone("test_vit", 16)
    with torch.no_grad():
        for weight in whole.parameters():
            weight.normal_()
    load_backbone_weights(backbone, whole.state_dict(), "file")
    loaded = backbone.net.state_dict()
    assert len(loaded) > 20
    for key, value in loaded.items():
        assert torch.equal(value, whole.state_dict()[key.removeprefix("model.")]), key
