"""Heads and whole networks from outside: what they are given and may return, and one line where something is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from networks import narrow
from torch import Tensor, nn

import crisscross
from crisscross.config import DataConfig, Experiment, ModelConfig, override
from crisscross.errors import CrissCrossError
from crisscross.losses import create_loss
from crisscross.models import Logits
from crisscross.models.heads import HeadInputs

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES = ("a", "b", "c")


class Plain(nn.Module):
    """One classifier on the last map; it keeps what it was given."""

    @dataclass(frozen=True)
    class Config:
        """Settings of every plain kind."""

        width: int = 4
        rate: float = 0.5
        rates: tuple[int, ...] = (1, 2)

    classifiers = ("classify",)

    def __init__(self, config: Config, given: HeadInputs) -> None:
        super().__init__()
        self.config, self.given, self.maps = config, given, []
        self.classify = nn.Conv2d(given.channels[-1], given.classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Logits | Tensor:
        self.maps = [list(x.shape) for x in maps]
        return Logits(self.classify(maps[-1]))


class Bare(Plain):
    def forward(self, maps):
        return super().forward(maps).main


class Narrower(Plain):
    def forward(self, maps):
        return super().forward(maps).main[:, :2]


class Nothing(Plain):
    def forward(self, maps):
        return None


class OwnAux(Plain):
    gives_aux = True

    def forward(self, maps):
        main = super().forward(maps).main
        return Logits(main, 2 * main if self.training else None)


class Misnamed(Plain):
    classifiers = ("classify", "typo")


class Unnamed(nn.Module):
    Config = Plain.Config

    def __init__(self, config, given):
        super().__init__()


class Rules(Plain):
    @dataclass(frozen=True)
    class Config:
        width: int = 4

        def __post_init__(self):
            if self.width < 1:
                raise CrissCrossError("model.head.width must be at least 1")


class NoDataclass(Plain):
    Config = int


class Strange(Plain):
    @dataclass(frozen=True)
    class Config:
        names: dict[str, int] = None


def no_class(config, given):
    return Plain(config, given)


def experiment(*words: str) -> Experiment:
    model = ModelConfig("test_resnet", **narrow(16, 8))
    return override(Experiment(model=model, data=DataConfig(classes=CLASSES)), words)


def built(head: str, *words: str) -> crisscross.Segmenter:
    return crisscross.build(experiment(f"model.head.name={__name__}:{head}", *words))


def test_a_head_gets_its_settings_and_every_map():
    network = built("Plain", "model.head.width=6", "model.head.rate=1", "model.align_corners=true")
    head = network.head
    assert head.config == Plain.Config(6, 1.0, (1, 2)) and isinstance(head.config.rate, float)
    given = head.given
    assert (given.classes, given.embedding, given.align_corners, given.frames) == (3, 0, True, 0)
    assert (given.channels, given.strides) == (network.backbone.channels, network.backbone.strides)
    network(torch.zeros(2, 3, 32, 48))
    sizes = [[2, c, -(-32 // s), -(-48 // s)] for c, s in zip(given.channels, given.strides, strict=True)]
    assert head.maps == sizes
    assert network.classifiers == ("head.classify", "aux_head.classify")


def test_logits_may_be_bare():
    x = torch.randn(1, 3, 32, 32)
    network = built("Bare").eval()
    assert network(x).main.shape == (1, 3, 32, 32) and network(x).aux is None
    assert network.train()(torch.randn(2, 3, 32, 32)).aux.shape == (2, 3, 32, 32)


def test_auxiliary_logits_of_its_own_take_the_place_of_the_auxiliary_head():
    network = built("OwnAux").train()
    found = network(torch.randn(2, 3, 32, 32), coarse=True)
    assert network.aux_head is None and torch.equal(found.aux, 2 * found.main)


@pytest.mark.parametrize(
    ("head", "words", "line"),
    [
        ("Plain", ("model.head.wdth=3",), r"unknown key model\.head\.wdth; did you mean width\?"),
        ("Plain", ("model.head.width=wide",), r"model\.head\.width must be a whole number, got 'wide'"),
        ("Plain", ("model.head.rates=3",), r"model\.head\.rates must be a list, got 3"),
        ("Plain", ("model.frames=2",), rf"model\.frames must be 0 with model\.head\.name={__name__}:Plain, got 2"),
        ("Rules", ("model.head.width=0",), r"model\.head\.width must be at least 1"),
        ("Misnamed", (), rf"model\.head\.name {__name__}:Misnamed: `classifiers` .* and 'typo' is not there"),
        ("Unnamed", (), rf"model\.head\.name {__name__}:Unnamed: `classifiers` must name its layers .*"),
        ("NoDataclass", (), r"model\.head\.name: int is no dataclass, which the settings of a head must be"),
        ("Strange", ("model.head.names=3",), r"model\.head\.names has the type dict.*, and settings are int, .*"),
        ("no_class", (), rf"model\.head\.name {__name__}:no_class: must be a torch module with a dataclass `Config`"),
        ("Missing", (), rf"model\.head\.name {__name__}:Missing: cannot be imported: .*"),
    ],
)
def test_what_is_wrong_with_a_head_is_one_line(head, words, line):
    with pytest.raises(CrissCrossError, match=rf"^{line}$") as caught:
        built(head, *words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("head", "got"), [("Narrower", r"\[1, 2, 4, 4\]"), ("Nothing", "NoneType")])
def test_what_is_wrong_with_its_logits_is_one_line(head, got):
    line = rf"^model\.head\.name {__name__}:{head}: must return Logits or class logits \[B, 3, h, w\], got {got}$"
    with pytest.raises(CrissCrossError, match=line):
        built(head).eval()(torch.zeros(1, 3, 32, 32))


def test_a_loss_of_the_embedding_wants_a_head_that_gives_one():
    terms = "loss.terms=[{name: cross_entropy}, {name: category_consistent}]"
    network = built("Plain", terms).train()
    assert network.head.given.embedding == 16
    found = network(torch.randn(2, 3, 32, 32), coarse=True)
    loss = create_loss(network.experiment.loss, 255)
    with pytest.raises(CrissCrossError, match=r"^loss\.terms: category_consistent needs an embedding, [^\n]*$"):
        loss(found.main, found.aux, torch.zeros(2, 32, 32, dtype=torch.uint8), found.embedding)


# --- whole networks ---


class Whole(nn.Module):
    classifiers = ("classify",)

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classify = nn.Conv2d(3, classes, 3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(x)


class TwoArguments(nn.Module):
    def __init__(self, classes: int, width: int) -> None:
        super().__init__()


def words_instead(classes: int) -> str:
    return "net"


def whole(name: str, *words: str) -> crisscross.Segmenter:
    return crisscross.build(experiment(f"model.network={__name__}:{name}", *words))


def test_a_whole_network_predicts_and_is_stored(tmp_path):
    network = whole("Whole").eval()
    assert network.classifiers == ("head.net.classify",) and network.aux_head is None
    assert network.backbone.channels == (3,)
    image = torch.randint(0, 256, (30, 45, 3), dtype=torch.uint8).numpy()
    crisscross.save(network, tmp_path / "w.safetensors")
    with pytest.raises(CrissCrossError, match=rf"refused: it asks to run code, model\.network={__name__}:Whole"):
        crisscross.load(tmp_path / "w.safetensors")
    loaded = crisscross.load(tmp_path / "w.safetensors", trust=tmp_path)
    assert (loaded.predict(image).labels == network.predict(image).labels).all()
    assert loaded.predict(image).labels.shape == (30, 45)
    said = crisscross.load(tmp_path / "w.safetensors", network=f"{__name__}:Whole")
    assert said.experiment == loaded.experiment


@pytest.mark.parametrize(
    ("name", "words", "line"),
    [
        ("Whole", ("model.frozen=[classify]",), r"model\.frozen must be empty with model\.network, .*"),
        ("TwoArguments", (), rf"model\.network {__name__}:TwoArguments: must take the number of classes: .*"),
        ("words_instead", (), rf"model\.network {__name__}:words_instead: must be a torch module, got str"),
        ("Missing", (), rf"model\.network {__name__}:Missing: cannot be imported: .*"),
    ],
)
def test_what_is_wrong_with_a_whole_network_is_one_line(name, words, line):
    with pytest.raises(CrissCrossError, match=rf"^{line}$"):
        whole(name, *words)


def test_a_head_named_again_in_the_call_needs_no_trust(tmp_path):
    network = built("Plain")
    crisscross.save(network, tmp_path / "w.safetensors")
    name = f"{__name__}:Plain"
    with pytest.raises(CrissCrossError, match=r"refused: it asks to run code, model\.head\.name="):
        crisscross.load(tmp_path / "w.safetensors")
    for again in ({"head": {"name": name}}, {"head": name}, {"model.head.name": name}):
        assert crisscross.load(tmp_path / "w.safetensors", **again).experiment == network.experiment
