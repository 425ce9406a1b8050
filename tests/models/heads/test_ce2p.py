"""CE2P's head and its edges: against literal definitions, and through everything a network meets."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from literal_inference import multi_scale_flip
from torch import Tensor, nn
from torchvision.tv_tensors import Image, Mask

import crisscross
from crisscross.checkpoints import native
from crisscross.checkpoints.convert import save_as
from crisscross.config import Experiment, ModelConfig, from_dict, override, to_dict
from crisscross.config.heads import CE2PConfig
from crisscross.data.samples.transforms import random_flip
from crisscross.data.sets.lip import CLASSES, FLIP_PAIRS, PALETTE
from crisscross.errors import CrissCrossError
from crisscross.losses import create_loss, edge_labels
from crisscross.losses.edges import edge_loss
from crisscross.models import Logits, Segmenter
from crisscross.models.heads import HeadInputs, create_head
from crisscross.models.heads.ce2p import CE2PHead
from crisscross.ops import criss_cross_attention_reference
from crisscross.speed.lean import make_lean
from crisscross.speed.recompute import recompute_in_backward
from crisscross.speed.rewrite import optimize
from crisscross.zoo import RECIPES, recipe

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "model": {
        "backbone": "test_resnet",
        "output_stride": 16,
        "head": {"name": "ce2p", "channels": 32, "dropout": 0.0, "activation": "relu"},
    },
    "data": {
        "classes": list(CLASSES),
        "palette": [list(c) for c in PALETTE],
        "flip_pairs": [list(p) for p in FLIP_PAIRS],
    },
    "loss": {"aux_weight": 1.0, "normalizer": "valid"},
}


def experiment(*changes: str) -> Experiment:
    return override(from_dict(Experiment, SMALL), changes)


def opened(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random scales, shifts and statistics, larger classifiers, an open gate."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 1.5, generator)
        elif name.endswith("gamma"):
            nn.init.constant_(tensor, 0.7)
        elif tensor.dim() == 1:
            nn.init.uniform_(tensor, -0.5, 1.5, generator)
        elif "classify" in name:
            nn.init.normal_(tensor, 0, 0.5, generator)
    return network


def segmenter(*changes: str) -> Segmenter:
    torch.manual_seed(0)
    return opened(Segmenter(experiment(*changes))).eval()


def image(height: int, width: int, count: int = 1) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(height + width))


# --- the head, written out once more from its state dict ---


def literal(
    state: dict[str, Tensor], maps: Sequence[Tensor], recurrence: int, corners: bool, training: bool
) -> SimpleNamespace:
    """CE2P with criss-cross attention: plain calls and names of tensors, no module of ours."""

    def block(name: str, x: Tensor, slope: float = 0.0) -> Tensor:
        weight = state[f"{name}.conv.weight"]
        x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        mean, var = state[f"{name}.norm.running_mean"].clone(), state[f"{name}.norm.running_var"].clone()
        x = F.batch_norm(x, mean, var, state[f"{name}.norm.weight"], state[f"{name}.norm.bias"], training)
        return F.leaky_relu(x, slope)

    def conv(name: str, x: Tensor, padding: int = 0) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    def up(x: Tensor) -> Tensor:
        return F.interpolate(x, maps[0].shape[-2:], mode="bilinear", align_corners=corners)

    res2, res3, res4, res5 = maps
    h = block("context.reduce", res5)
    for _ in range(recurrence):
        q, k, v = (conv(f"context.attend.attention.{name}", h) for name in ("query", "key", "value"))
        h = h + state["context.attend.attention.gamma"] * criss_cross_attention_reference(q, k, v)
    context = block("context.fuse", torch.cat([res5, block("context.refine", h)], 1))
    wide, detail = up(block("decode.context", context)), block("decode.detail", res2)
    parsing = block("decode.refine", block("decode.join", torch.cat([wide, detail], 1)))
    edge2, edge3, edge4 = (block(f"edge.reduce.{i}", x) for i, x in enumerate((res2, res3, res4)))
    found = [up(conv("edge.find", x, 1)) for x in (edge2, edge3, edge4)]
    joined = block("join", torch.cat([parsing, edge2, up(edge3), up(edge4)], 1))
    return SimpleNamespace(
        main=conv("classify", joined),
        aux=conv("classify_before", parsing),
        edges=conv("edge.fuse", torch.cat(found, 1)),
    )


def head_and_maps(corners: bool = False, recurrence: int = 2) -> tuple[CE2PHead, list[Tensor]]:
    torch.manual_seed(1)
    config = CE2PConfig(channels=32, recurrence=recurrence, dropout=0.0, activation="relu")
    # A map finer than stride 4 is not read.
    head = CE2PHead(config, HeadInputs([3, 6, 10, 14, 20], [2, 4, 8, 16, 16], 5, align_corners=corners))
    sizes = [(6, 17, 13), (10, 9, 7), (14, 5, 4), (20, 5, 4)]
    maps = [torch.randn(2, *size, dtype=torch.float64) for size in sizes]
    return opened(head.double()), maps


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_head_is_the_literal_one(corners, training):
    head, maps = head_and_maps(corners)
    state = {key: value.clone() for key, value in head.state_dict().items()}
    with torch.no_grad():
        # A map finer than stride 4 comes first and is not read.
        found = head.train(training)([torch.full((2, 3, 34, 26), torch.nan), *maps])
    expected = literal(state, maps, 2, corners, training)
    assert found.main.shape == (2, 5, 17, 13)
    for name in ("main", "aux", "edges") if training else ("main",):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-9)
    if not training:
        assert found.aux is None and found.edges is None
    # Every part matters: the same statement without its attention, and with other corners, is another one.
    for other in (literal(state, maps, 0, corners, training), literal(state, maps, 2, not corners, training)):
        assert (found.main - other.main).abs().max() > 1e-3


def test_every_tensor_of_the_head_learns():
    head, maps = head_and_maps()
    found = head.train()(maps)
    (found.main.square().mean() + found.aux.square().mean() + found.edges.square().mean()).backward()
    idle = [name for name, value in head.named_parameters() if value.grad is None or not value.grad.abs().max() > 0]
    # Batch norm takes a bias before it away, and the softmax that of the key.
    assert idle == []


def test_a_closed_gate_is_the_network_without_attention():
    attending, plain = segmenter(), segmenter("model.head.recurrence=0")
    weights = {key: value for key, value in attending.state_dict().items() if "attend" not in key}
    plain.load_state_dict(weights)
    x = image(65, 49)
    with torch.no_grad():
        assert not torch.equal(attending(x).main, plain(x).main)
        attending.head.context.attend.attention.gamma.zero_()
        assert torch.equal(attending(x).main, plain(x).main)


@pytest.mark.parametrize(
    ("backbone", "stride", "edge_maps"),
    [
        ("test_resnet", 8, 3),
        ("test_efficientnet", 16, 3),
        # Nothing finer than stride 4, and the last two have strides 16 and 32.
        ("test_convnext", 32, 3),
    ],
)
def test_shapes_on_any_backbone_with_a_map_of_stride_4(backbone, stride, edge_maps):
    # ResNets and EfficientNets round sizes up; ConvNeXt cuts what is left over.
    size, fine = ((64, 48), (16, 12)) if stride == 32 else ((65, 49), (17, 13))
    network = Segmenter(experiment(f"model.backbone={backbone}", f"model.output_stride={stride}")).train()
    found = network(image(*size, 2), coarse=True)
    assert isinstance(found, Logits) and found.main.shape == (2, 20, *fine) and found.embedding is None
    assert len(network.head.edge.reduce) == edge_maps
    assert found.aux.shape == (2, 20, *fine) and found.edges.shape == (2, 2, *fine)
    full = network(image(*size, 2))
    assert full.main.shape == full.aux.shape == (2, 20, *size) and full.edges.shape == (2, 2, *size)
    # It gives auxiliary logits of its own, of a layer that has the classes.
    assert network.aux_head is None and network.classifiers == ("head.classify", "head.classify_before")
    quiet = network.eval()(image(*size, 2), coarse=True)
    assert quiet.aux is None and quiet.edges is None


class CoarseNet(nn.Module):
    """Maps of stride 8 and 16 alone."""

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 8, 8), nn.Conv2d(8, 16, 2, 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = self.first(x)
        return [fine, self.second(fine)]


class FineNet(CoarseNet):
    """A map of stride 4 and the last one: a single map for the edges."""

    def __init__(self, output_stride: int) -> None:
        super().__init__(output_stride)
        self.first, self.second = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 16, 4, 4)


def test_a_backbone_of_ones_own():
    network = Segmenter(experiment(f"model.backbone={__name__}:FineNet")).train()
    assert network(image(64, 48, 2), coarse=True).edges.shape == (2, 2, 16, 12)
    with pytest.raises(
        CrissCrossError, match=r"ce2p needs a feature map of stride 4, and the backbone's have 8, 16: choose"
    ):
        Segmenter(experiment(f"model.backbone={__name__}:CoarseNet"))


def test_clips_are_refused():
    with pytest.raises(CrissCrossError, match=r"^model\.frames must be 0 with model\.head\.name=ce2p, got 3$"):
        crisscross.build(experiment("model.frames=3"))


def test_the_published_head_has_the_published_widths():
    head = create_head(recipe("lip-ce2p-r101").model, HeadInputs([64, 256, 512, 1024, 2048], [2, 4, 8, 16, 16], 20))
    shapes = {key: tuple(value.shape) for key, value in head.state_dict().items() if key.endswith("weight")}
    assert shapes["decode.context.conv.weight"] == (256, 512, 1, 1)
    assert shapes["decode.detail.conv.weight"] == (48, 256, 1, 1)
    assert shapes["decode.join.conv.weight"] == (256, 304, 1, 1)
    assert shapes["edge.reduce.2.conv.weight"] == (256, 1024, 1, 1)
    assert shapes["edge.find.weight"] == (2, 256, 3, 3) and shapes["edge.fuse.weight"] == (2, 6, 1, 1)
    assert shapes["join.conv.weight"] == (256, 1024, 1, 1) and shapes["classify.weight"] == (20, 256, 1, 1)


# --- edges of label maps, and their loss ---


def test_edges_of_five_by_five_by_hand():
    labels = torch.tensor(
        [
            [0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0],
            [0, 0, 3, 3, 3],
            [0, 0, 3, 3, 3],
            [9, 9, 3, 3, 3],
        ]
    )
    one = torch.tensor(
        [
            [0, 0, 0, 0, 0],
            [0, 1, 1, 1, 1],
            [0, 1, 1, 1, 1],
            [0, 1, 1, 0, 0],
            [255, 255, 1, 0, 0],
        ],
        dtype=torch.uint8,
    )
    assert torch.equal(edge_labels(labels[None], 1, 9)[0], one)
    two = torch.tensor(
        [
            [1, 1, 1, 1, 1],
            [1, 1, 1, 1, 1],
            [1, 1, 1, 1, 1],
            [1, 1, 1, 1, 1],
            [255, 255, 1, 1, 0],
        ],
        dtype=torch.uint8,
    )
    assert torch.equal(edge_labels(labels[None], 2, 9)[0], two)


@pytest.mark.parametrize(("reach", "ignore"), [(1, 255), (2, 255), (3, 0), (2, 1)])
def test_edges_are_those_of_the_loop(reach, ignore):
    rng = np.random.default_rng(reach)
    labels = np.kron(rng.integers(0, 4, (2, 3, 4)), np.ones((1, 5, 5), np.int64)).astype(np.uint8)
    labels[labels == 3] = ignore
    found = edge_labels(torch.from_numpy(labels), reach, ignore).numpy()
    for b, y, x in np.ndindex(*labels.shape):
        window = labels[b, max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
        others = set(window.flatten().tolist()) - {ignore, int(labels[b, y, x])}
        expected = 255 if labels[b, y, x] == ignore else int(bool(others))
        assert found[b, y, x] == expected
    assert set(np.unique(found)) == {0, 1, 255}


def test_mirrored_labels_have_mirrored_edges():
    labels = labels_of()
    for turned in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.transpose(-1, -2)):
        assert torch.equal(edge_labels(turned(labels), 2, 255), turned(edge_labels(labels, 2, 255)))


def labels_of(count: int = 2, height: int = 33, width: int = 29) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    labels = torch.stack([((x + 3 * n) // 9 + y // 11) % 20 for n in range(count)])
    labels[:, 20:24] = 255
    return labels.to(torch.uint8)


def test_the_edge_loss_is_balanced_cross_entropy():
    """CE2P's formula: class weights from the shares in the batch, torch's weighted mean."""
    labels = labels_of()
    coarse = torch.randn(2, 2, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = edge_loss(coarse, labels, 255, True)
    (gradient,) = torch.autograd.grad(found, coarse)
    edges = edge_labels(labels, 2, 255).long()
    positive, negative = (edges == 1).sum(), (edges == 0).sum()
    weights = torch.stack([positive, negative]).double() / (positive + negative)
    logits = F.interpolate(coarse, (33, 29), mode="bilinear", align_corners=True)
    expected = F.cross_entropy(logits, edges, weights, ignore_index=255)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, coarse)[0])
    assert positive != negative


def test_the_edge_loss_by_hand():
    labels = torch.tensor([[[0, 0, 0, 0, 0, 1]]])
    logits = torch.zeros(1, 2, 1, 6)
    # Pixels 3 to 5 are edges. p(edge) there 1/2, 3/4 and 1/4, p(no edge) 1/2 in pixels 0 to 2.
    logits[0, 1, 0, 4], logits[0, 0, 0, 5] = np.log(3), np.log(3)
    expected = 0.5 * np.log(2) + 0.5 * (np.log(2) - np.log(0.75) - np.log(0.25)) / 3
    assert edge_loss(logits, labels, 255, False).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("label", [0, 255])
def test_images_of_one_class_or_of_none_are_no_trouble(label):
    labels = torch.full((1, 8, 8), label, dtype=torch.uint8)
    coarse = torch.zeros(1, 2, 2, 2, requires_grad=True)
    found = edge_loss(coarse, labels, 255, False)
    # All pixels are of one kind, which has half the loss.
    assert found.item() == pytest.approx(0.5 * np.log(2) if label == 0 else 0.0)
    found.backward()
    assert coarse.grad.isfinite().all()


def test_the_whole_loss_is_the_sum_of_its_three_parts():
    network, labels = segmenter().train(), labels_of(2, 65, 49)
    config = replace(network.experiment.loss, aux_weight=0.25)
    found = network(image(65, 49, 2), coarse=True)
    given = found.main, found.aux, labels, found.embedding, found.edges
    loss = create_loss(config, 255)(*given)
    assert list(loss.parts) == ["cross_entropy", "aux", "edge"]
    torch.testing.assert_close(sum(loss.parts.values()), loss.total.detach())

    def plain(logits: Tensor) -> Tensor:
        wide = F.interpolate(logits, (65, 49), mode="bilinear", align_corners=False)
        return F.cross_entropy(wide, labels.long(), ignore_index=255)

    torch.testing.assert_close(loss.parts["cross_entropy"], plain(found.main).detach())
    torch.testing.assert_close(loss.parts["aux"], 0.25 * plain(found.aux).detach())
    # Networks without edges are asked for none.
    assert list(create_loss(config, 255)(found.main, None, labels).parts) == ["cross_entropy"]


# --- left and right ---


def test_a_mirrored_mask_swaps_left_and_right():
    mask = Mask(torch.arange(20, dtype=torch.uint8).reshape(4, 5))
    image = Image(mask.expand(3, 4, 5).contiguous())
    _, flipped = random_flip(image, mask, 1.0, torch.Generator(), FLIP_PAIRS)
    rows = [[4, 3, 2, 1, 0], [9, 8, 7, 6, 5], [15, 13, 12, 11, 10], [18, 19, 16, 17, 14]]
    # 10 11 12 13 14 comes back as 14 13 12 11 10, where 14 becomes 15; 15 16 17 18 19 as 19 18 17 16 15.
    assert flipped.tolist() == rows


def test_mirrored_passes_swap_left_and_right_in_ce2ps_logits():
    network = segmenter("inference.ratios=[1.0, 1.5]")
    shown = np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype(np.uint8)
    config, stored = network.experiment.inference, network.experiment.preprocess

    def coarse_of(x: Tensor) -> Tensor:
        with torch.no_grad():
            return network.coarse(x).main

    found = network.predict(shown, probabilities=True, tta=True).probabilities
    given = coarse_of, shown, None, config, stored.mean, stored.std, False
    np.testing.assert_allclose(found, multi_scale_flip(*given, FLIP_PAIRS), atol=2e-5)
    assert np.abs(found - multi_scale_flip(*given)).max() > 1e-3


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("change", ["inference.mode=whole", "inference.mode=slide"])
def test_small_images_are_filled_up_as_in_training(change, mirror):
    """Right and below, with the mean color, of a mirrored image too; windows one by one."""
    windows = ("inference.window=[40, 96]", "inference.stride=[20, 96]")
    network = segmenter("inference.pad_to=[64, 80]", "inference.ratios=[1.0]", change, *windows)
    shown = np.random.default_rng(0).integers(0, 256, (60, 44, 3)).astype(np.uint8)
    config, stored = network.experiment.inference, network.experiment.preprocess
    config = replace(config, flip=mirror)
    network.experiment = replace(network.experiment, inference=config)

    def coarse_of(x: Tensor) -> Tensor:
        """For the literal passes, which know nothing of it: at image size, so that they resize nothing more."""
        height, width = x.shape[-2:]
        full = torch.zeros(1, 3, 64, 80)
        full[..., :height, :width] = x
        with torch.no_grad():
            return network(full).main[..., :height, :width]

    found = network.predict(shown, probabilities=True, tta=True).probabilities
    expected = multi_scale_flip(coarse_of, shown, None, config, stored.mean, stored.std, False, FLIP_PAIRS)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    plain = segmenter("inference.ratios=[1.0]", change, *windows, f"inference.flip={mirror}")
    assert np.abs(found - plain.predict(shown, probabilities=True, tta=True).probabilities).max() > 1e-3


# --- what a network meets ---


def test_a_checkpoint_keeps_head_and_weights(tmp_path):
    network = segmenter()
    native.save(network, tmp_path / "a.safetensors")
    loaded = crisscross.load(tmp_path / "a.safetensors")
    assert loaded.experiment == network.experiment and isinstance(loaded.head, CE2PHead)
    with torch.no_grad():
        assert torch.equal(loaded(image(65, 49)).main, network(image(65, 49)).main)
    tensors, _, _ = native.read(tmp_path / "a.safetensors")
    fewer = override(network.experiment, ["data.classes=[a, b]", "data.palette=[]", "data.flip_pairs=[]"])
    with pytest.raises(CrissCrossError, match=r"the file has 20 classes, the configuration 2"):
        native.fill(Segmenter(fewer), tensors, "a.safetensors")
    with pytest.raises(CrissCrossError, match=r"head\.classify\.weight has shape \[20, 16, 1, 1\]"):
        native.fill(Segmenter(override(network.experiment, ["model.head=ccnet"])), tensors, "a.safetensors")


def test_no_other_publisher_has_this_network(tmp_path):
    network = Segmenter(experiment("model.backbone=resnet50c", "model.output_stride=8"))
    with pytest.raises(CrissCrossError, match=r"has no such network: model\.head\.name=ce2p \(theirs: ccnet\)"):
        save_as(network, tmp_path / "a.pth", "mmseg")


def test_a_rewritten_network_agrees():
    network = segmenter()
    faster, x = optimize(network), image(64, 48)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in faster.head.modules())
    with torch.no_grad():
        torch.testing.assert_close(faster(x).main, network(x).main, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("way", ["lean", "recompute"])
def test_steps_in_less_memory_have_the_same_gradients(way):
    x, labels = image(65, 49, 2), labels_of(2, 65, 49)

    def gradients(change: str) -> list[Tensor]:
        network = segmenter().train()
        if change == "lean":
            make_lean(network)
        elif change:
            recompute_in_backward(network.head)
        found = network(x, coarse=True)
        loss = create_loss(network.experiment.loss, 255)
        loss(found.main, found.aux, labels, found.embedding, found.edges).total.backward()
        return [value.grad for value in network.parameters()]

    for found, expected in zip(gradients(way), gradients(""), strict=True):
        torch.testing.assert_close(found, expected)


def test_the_category_consistent_loss_finds_its_embedding():
    network = Segmenter(experiment("loss.terms=[{name: cross_entropy}, {name: category_consistent}]")).train()
    found = network(image(64, 48, 2), coarse=True)
    assert found.embedding.shape == (2, 16, 4, 3)
    loss = create_loss(network.experiment.loss, 255)
    labels = labels_of(2, 64, 48)
    parts = loss(found.main, found.aux, labels, found.embedding, found.edges).parts
    assert list(parts) == ["cross_entropy", "variance", "distance", "regularization", "aux", "edge"]


def test_the_tree_goes_round():
    given = experiment("augment.rotation=10", "model.head.channels=24")
    assert from_dict(Experiment, to_dict(given)) == given
    # An experiment stored before there was a choice of heads means the same as ever.
    assert from_dict(ModelConfig, {}).head.name == "ccnet"


# --- recipes ---


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("lip-")])
def test_each_recipe_by_hand(name):
    found = recipe(name)
    augment = found.augment
    side = 320 if name == "lip-light" else 473
    assert augment.scale == augment.crop == found.preprocess.scale == found.inference.pad_to == (side, side)
    assert (augment.ratio, augment.rotation, augment.rotation_chance, augment.flip) == ((0.75, 1.25), 30.0, 0.6, 0.5)
    assert found.data.name == "lip" and found.model.head.recurrence == 2 and found.model.align_corners
    ce2p = "ccnet" not in name
    assert (found.model.head.name, found.model.output_stride) == (("ce2p", 16) if ce2p else ("ccnet", 8))
    assert found.loss.aux_weight == (1.0 if ce2p else 0.4)
    if ce2p:
        assert found.model.head.activation == ("relu" if name == "lip-light" else "leaky_relu")
    if name != "lip-light":
        # 150 epochs of 30,462 images.
        assert found.train.iterations == 285_600 and 0 <= 285_600 * 16 - 150 * 30_462 < 1600
        assert found.model.backbone == ("resnet101c" if name.endswith("r101") else "resnet50c")
    with torch.device("meta"):
        network = Segmenter(crisscross.zoo.with_known_classes(found), initialize=False)
    assert (network.aux_head is None) == ce2p
    assert network.classes == CLASSES and network.experiment.data.flip_pairs == FLIP_PAIRS
