"""The section `model.head`: the settings of every built-in head, and of heads from outside.

A built-in head takes its dataclass here as its `Config`; they stand in `config` so that a configuration is read without
torch. The settings of a head from outside are kept as they were written, and checked by its own `Config` when a network
is made: reading a configuration imports no code of users.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple

from crisscross.config.names import hint
from crisscross.config.rules import MOST_CHANNELS, MOST_TIMES, below_one, between, require
from crisscross.errors import CrissCrossError, shown


@dataclass(frozen=True)
class ContextConfig:
    """What heads with criss-cross attention have in common.

    `channels` is the width (512 as published), `recurrence` the paper's R, the number of passes of the attention, and
    `reduction` divides the channels for query and key. R = 0 leaves the attention out and keeps everything else.
    `dropout` is the fraction of channels dropped before the classifier.
    """

    title: ClassVar[str]
    name: str
    channels: int = 512
    recurrence: int = 2
    reduction: int = 8
    dropout: float = 0.1

    def __post_init__(self) -> None:
        between(self, "model.head", 0, MOST_TIMES, "recurrence")
        between(self, "model.head", 1, MOST_CHANNELS, "channels", "reduction")
        rule = "at least model.head.reduction"
        require(self.channels >= self.reduction, "model.head.channels", rule, self.channels)
        below_one(self, "model.head", "dropout")


@dataclass(frozen=True)
class CCNetConfig(ContextConfig):
    """CCNet's head: `ContextConfig`'s settings and one more.

    `pyramid` above 0 puts a feature pyramid of that many channels over the backbone's maps from stride 4 on, before the
    classifier: thin things are seen better, and the logits have stride 4. The published CCNet has none.
    """

    title: ClassVar[str] = "CCNet"
    name: Literal["ccnet"] = "ccnet"
    pyramid: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        between(self, "model.head", 0, MOST_CHANNELS, "pyramid")


@dataclass(frozen=True)
class CE2PConfig(ContextConfig):
    """CE2P's head for human parsing, with CCNet's attention as its context module: docs/parsing.md.

    `ContextConfig`'s settings, and the `activation` of all its convolutions, which `model.variant` does not change.
    """

    title: ClassVar[str] = "CE2P with criss-cross attention"
    name: Literal["ce2p"] = "ce2p"
    activation: Literal["leaky_relu", "relu"] = "leaky_relu"


@dataclass(frozen=True)
class OwnHead:
    """A head from outside: `package.module:Class` and its settings, pairs of key and value in the order given."""

    name: str
    settings: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class AuxHeadConfig:
    """The auxiliary head on the last feature map but one: its width (0 = none) and its dropout."""

    channels: int = 256
    dropout: float = 0.1

    def __post_init__(self) -> None:
        between(self, "model.aux_head", 0, MOST_CHANNELS, "channels")
        below_one(self, "model.aux_head", "dropout")


class BuiltIn(NamedTuple):
    """A head known by name: its settings, and its class as `package.module:Class`, imported with the first network."""

    config: type
    head: str


HeadConfig = CCNetConfig | CE2PConfig | OwnHead
HEADS: dict[str, BuiltIn] = {
    "ccnet": BuiltIn(CCNetConfig, "crisscross.models.heads.ccnet:CrissCrossHead"),
    "ce2p": BuiltIn(CE2PConfig, "crisscross.models.heads.ce2p:CE2PHead"),
}


def kind_of_head(name: Any) -> type:
    """The dataclass for `model.head` of a name: a key of `HEADS` or `package.module:Class`.

    Raises:
        CrissCrossError: another name; near misses are named.
    """
    if isinstance(name, str) and name in HEADS:
        return HEADS[name].config
    if isinstance(name, str) and ":" in name:
        return OwnHead
    known = hint(str(name)[:100], [*HEADS, "package.module:Class"])
    raise CrissCrossError(f"model.head.name: unknown head {shown(name)}; {known}")


def changed_head(settings: dict[str, Any], change: Any) -> Any:
    """The section `model.head` after a change: a name alone, or the keys that are to be replaced.

    Where the name changes, the settings stay that the new head has, too.
    """
    change = {"name": change} if isinstance(change, str) else change
    if not isinstance(change, dict):
        return change
    name = change.get("name", settings["name"])
    if name != settings["name"]:
        known = fields(HEADS[name].config) if isinstance(name, str) and name in HEADS else ()
        settings = {entry.name: settings.get(entry.name, entry.default) for entry in known}
    return {**settings, **change}
