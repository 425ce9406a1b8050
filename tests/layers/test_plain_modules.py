"""Weights are read in the place of calling a module only where that is the same: offloading, hooks, other forwards."""

import copy
from types import MethodType

import pytest
import torch
from accelerate import cpu_offload
from networks import narrow
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

import crisscross
from crisscross import CrissCrossAttention, CrissCrossAttention3d, criss_cross_attention, criss_cross_attention_3d
from crisscross.layers import attention
from crisscross.layers.plain_modules import is_plain

SIZES = {CrissCrossAttention: (2, 8, 5, 6), CrissCrossAttention3d: (1, 8, 2, 3, 4)}


def layer(kind: type[nn.Module]) -> tuple[nn.Module, Tensor]:
    """A layer with an open gate, and an input."""
    torch.manual_seed(0)
    made = kind(8, 2).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made, torch.randn(SIZES[kind], dtype=torch.float64)


def by_calls(made: nn.Module, x: Tensor) -> Tensor:
    """The published layer, every projection called as a module."""
    attend = criss_cross_attention if x.dim() == 4 else criss_cross_attention_3d
    return x + made.gamma * attend(made.query(x), made.key(x), made.value(x), "reference")


class Doubled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Doubled3d(nn.Conv3d):
    def forward(self, x):
        return 2 * super().forward(x)


class Quantised(Tensor):
    """A weight that knows a convolution alone, and computes another one."""

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        plain = [a.as_subclass(Tensor) if isinstance(a, Quantised) else a for a in arguments]
        result = function(*plain, **(options or {}))
        if function in (nn.functional.conv2d, nn.functional.conv3d, torch.conv2d, torch.conv3d):
            return 2 * result
        return result.as_subclass(Quantised) if isinstance(result, Tensor) else result


def doubled_forward(made):
    def forward(self, x):
        return 2 * type(self).forward(self, x)

    made.value.forward = MethodType(forward, made.value)


def doubled_class(made):
    made.value.__class__ = Doubled if isinstance(made.value, nn.Conv2d) else Doubled3d


def doubled_weight(made):
    made.value.weight = nn.Parameter(made.value.weight.detach().as_subclass(Quantised), requires_grad=False)


def doubled_by_a_hook(made):
    made.value.register_forward_hook(lambda module, inputs, output: 2 * output)


def a_wider_convolution(made):
    kind = type(made.value)
    made.value = kind(8, 8, 3, padding=1).double()


def layerwise_casting(made):
    """Stored in float32, computed in float64."""
    made.value.float()

    def forward(self, x):
        self.double()
        try:
            return type(self).forward(self, x)
        finally:
            self.float()

    made.value.forward = MethodType(forward, made.value)


WAYS = [
    doubled_forward,
    doubled_class,
    doubled_weight,
    doubled_by_a_hook,
    a_wider_convolution,
    layerwise_casting,
]


@pytest.mark.parametrize("change", WAYS)
@pytest.mark.parametrize("kind", SIZES)
def test_what_the_projections_became_is_what_counts(kind, change):
    made, x = layer(kind)
    before = made(x)
    change(made)
    torch.testing.assert_close(made(x), by_calls(made, x), rtol=1e-10, atol=1e-10)
    assert not torch.equal(made(x), before)


@pytest.mark.parametrize("kind", SIZES)
def test_backward_hooks_change_gradients(kind):
    made, x = layer(kind)
    plain = copy.deepcopy(made)
    made.key.register_full_backward_hook(lambda module, into, out: tuple(g if g is None else 3 * g for g in into))
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    made(mine).square().sum().backward()
    # The key's share of the gradient three times: of an expression where the key's input is a leaf of its own.
    apart = x.clone().requires_grad_()
    attend = criss_cross_attention if x.dim() == 4 else criss_cross_attention_3d
    y = theirs + plain.gamma * attend(plain.query(theirs), plain.key(apart), plain.value(theirs), "reference")
    y.square().sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad + 3 * apart.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", SIZES)
def test_torchs_global_hooks_are_heard(kind):
    made, x = layer(kind)
    handle = torch_module.register_module_forward_hook(
        lambda module, inputs, output: 2 * output if module is made.value else None
    )
    try:
        found, expected = made(x), by_calls(made, x)
    finally:
        handle.remove()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert (found - by_calls(made, x)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", SIZES)
def test_a_plain_layer_calls_the_block_also_when_compiled(kind, monkeypatch):
    made, x = layer(kind)
    calls, block = [], attention.criss_cross_block
    monkeypatch.setattr(attention, "criss_cross_block", lambda *a, **k: (calls.append(1), block(*a, **k))[1])
    expected = made(x)
    assert calls == [1]
    graphs = []

    def backend(graph, inputs):
        graphs.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
        return graph

    monkeypatch.undo()
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(made, backend=backend, fullgraph=True)(x), expected)
    assert any("crisscross.block" in target for target in graphs[0])
    assert not any("conv" in target for target in graphs[0])


@pytest.mark.parametrize("kind", SIZES)
def test_weights_on_another_device_are_refused(kind):
    made, x = layer(kind)
    with pytest.raises(ValueError, match=r"x is on cpu, the layer on meta: move one of them, as in layer\.to"):
        made.to("meta")(x)
    assert made(x.to("meta")).is_meta
    made, x = layer(kind)
    made.query.to("meta")
    with pytest.raises((ValueError, RuntimeError), match="meta"):
        made(x)


def test_operators_compare_devices():
    x, w, b = torch.randn(1, 3, 4, 8), torch.randn(8, 8, device="meta"), torch.randn(8, device="meta")
    rest = (None, None, "both", 0, True, False, False)
    with pytest.raises(ValueError, match="must be on one device, got cpu and meta"):
        torch.ops.crisscross.block(x, w, b, w, b, *rest)
    with pytest.raises(ValueError, match="must be on one device, got cpu and meta"):
        torch.ops.crisscross.attention(x, x.to("meta"), x, None, None, "both", 0, False)


def test_an_offloaded_network_predicts_the_same():
    segmenter = small_segmenter()
    image = (torch.arange(40 * 50 * 3) * 37 % 251).to(torch.uint8).view(40, 50, 3).numpy()
    expected = segmenter.predict(image, probabilities=True)
    found = cpu_offload(copy.deepcopy(segmenter), torch.device("cpu")).predict(image, probabilities=True)
    assert abs(found.probabilities - expected.probabilities).max() < 1e-5
    assert (found.labels == expected.labels).all()


def small_segmenter() -> crisscross.Segmenter:
    from crisscross.config import DataConfig, Experiment, ModelConfig

    torch.manual_seed(0)
    model = ModelConfig("test_resnet", **narrow())
    made = crisscross.Segmenter(Experiment(model=model, data=DataConfig(classes=("a", "b", "c")))).eval()
    nn.init.constant_(made.head.attend.attention.gamma, 0.5)
    nn.init.normal_(made.head.classify.weight)
    return made


def test_every_kind_of_hook_counts_but_ones_own():
    conv = nn.Conv2d(1, 1, 1)
    assert is_plain(conv, nn.Conv2d) and not is_plain(conv, nn.Conv3d)
    handle = conv.register_forward_hook(lambda *_: None)
    assert not is_plain(conv, nn.Conv2d) and is_plain(conv, nn.Conv2d, own_hooks=1)
    handle.remove()
    for add in ("register_forward_pre_hook", "register_full_backward_hook", "register_full_backward_pre_hook"):
        handle = getattr(conv, add)(lambda *_: None)
        assert not is_plain(conv, nn.Conv2d)
        handle.remove()
    for add in (
        "register_module_forward_pre_hook",
        "register_module_forward_hook",
        "register_module_full_backward_hook",
        "register_module_full_backward_pre_hook",
    ):
        handle = getattr(torch_module, add)(lambda *_: None)
        assert not is_plain(conv, nn.Conv2d)
        handle.remove()
    assert is_plain(conv, nn.Conv2d)
