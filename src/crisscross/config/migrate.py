"""Experiments that earlier versions stored, brought to today's keys."""

from dataclasses import asdict
from typing import Any

from crisscross.config.variants import VARIANTS
from crisscross.errors import CrissCrossError

Tree = dict[str, Any]
# Section -> earlier key -> today's.
RENAMED = {"loss": {"normaliser": "normalizer"}, "augment": {"max_share": "max_fraction"}}
# Section -> keys that no longer exist: what they chose is fixed now. No trained network depends on it, except for the
# rounding that `preprocess.resize` chose.
DROPPED: dict[str, tuple[str, ...]] = {
    "model": ("baseline", "attention_memory"),
    "preprocess": ("resize",),
    "loss": ("edge_weight", "edge_reach"),
    "consistency": ("variance", "distance", "regularization"),
    "train": ("max_skipped",),
}
# Terms of `loss.terms` that no longer exist.
DROPPED_TERMS = ("boundary", "ohem_pixels")
# Settings of the head that once stood in `model` itself, and those by which publishers differ.
OF_HEAD = ("recurrence", "channels", "reduction", "dropout")
OF_AUX_HEAD = {"aux_channels": "channels", "dropout": "dropout"}
QUIRKS = ("contract_dilation", "pool_shortcut", "ceil_pool", "activation", "norm", "aux_bias", "fuse_bias")
# What `model.activation` stood for: around the attention, and everywhere else.
ACTIVATIONS = {"leaky_attention": ("leaky_relu", "relu")}
# (Section, key) -> earlier value -> today's.
VALUES: dict[tuple[str, str], dict[Any, Any]] = {
    ("train", "memory"): {"least": "lean"},
    ("train", "batch_norm"): {"sync": "auto"},
    ("data", "val_split"): {"": "none"},
}


def migrate(tree: Any) -> Any:
    """Today's tree of plain values for one that any earlier version wrote; today's own comes back equal.

    Every place that reads a stored experiment calls it before `from_dict`: the header of our weights, `experiment.yaml`
    of a run, and the metadata of files that were converted. Keys that it does not know stay, for `from_dict` to name.

    Args:
        tree: what was read, of any task. It is left as it is.

    Raises:
        CrissCrossError: the tree describes a network that is no longer available.
    """
    if not isinstance(tree, dict):
        return tree
    sections = {name: _section(name, value) if isinstance(value, dict) else value for name, value in tree.items()}
    if isinstance(sections.get("model"), dict) and tree.get("task") != "instances":
        sections["model"] = _model(sections["model"])
    return sections


def _section(name: Any, section: Tree) -> Tree:
    renamed, dropped = RENAMED.get(name, {}), DROPPED.get(name, ())
    kept = {
        renamed.get(key, key): _section(key, value) if isinstance(value, dict) else value
        for key, value in section.items()
        if key not in dropped
    }
    if name == "loss" and isinstance(kept.get("terms"), list):
        terms = [term for term in kept.pop("terms") if not isinstance(term, dict) or _stays(term)]
        kept |= {"terms": terms} if terms else {}
    for (section_name, key), values in VALUES.items():
        if section_name == name and isinstance(kept.get(key), str):
            kept[key] = values.get(kept[key], kept[key])
    return kept


def _stays(term: Tree) -> bool:
    return term.get("name") not in DROPPED_TERMS


def _model(model: Tree) -> Tree:
    """The section `model` with the sections `head` and `aux_head` and one `variant`."""
    head = model.get("head", {})
    earlier = {*OF_HEAD, *OF_AUX_HEAD, *QUIRKS, "edge"} & model.keys()
    if not earlier or not isinstance(head, str | dict):
        return model
    new = {key: value for key, value in model.items() if key not in earlier}
    head = {"name": head} if isinstance(head, str) else dict(head)
    new["head"] = head | {key: model[key] for key in OF_HEAD if key in model}
    new["aux_head"] = {today: model[key] for key, today in OF_AUX_HEAD.items() if key in model}
    if model.get("edge") is False and head.get("name") == "ce2p":
        raise CrissCrossError("model.edge=false: CE2P's head without its edge branch is no longer available")
    quirks = {key: model[key] for key in QUIRKS if key in model}
    if head.get("name") == "ce2p":
        new["head"]["activation"] = quirks.pop("activation", "relu")
    variant = _variant(quirks)
    return new if variant == "mmseg" else {**new, "variant": variant}


def _variant(quirks: Tree) -> str:
    """The variant that earlier keys describe."""
    wanted = {key: value for key, value in quirks.items() if key != "activation"}
    if "activation" in quirks:
        name = quirks["activation"]
        around, after = ACTIVATIONS.get(name, (name, name)) if isinstance(name, str) else (name, name)
        wanted |= {"around": around, "after": after}
    whole = asdict(VARIANTS["mmseg"]) | wanted
    for name, variant in VARIANTS.items():
        if asdict(variant) == whole:
            return name
    said = ", ".join(
        f"model.{key}={value}" for key, value in quirks.items() if asdict(VARIANTS["mmseg"]).get(key) != value
    )
    raise CrissCrossError(f"{said}: together these are the network of no publisher; see model.variant")
