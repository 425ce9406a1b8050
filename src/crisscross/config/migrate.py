"""Experiments that earlier versions stored, brought to today's keys."""

from typing import Any

Tree = dict[str, Any]
# Section -> earlier key -> today's.
RENAMED = {"loss": {"normaliser": "normalizer"}, "augment": {"max_share": "max_fraction"}}
# Section -> keys that no longer exist, and whose values changed no result.
DROPPED: dict[str, tuple[str, ...]] = {"model": ("attention_memory",)}
# (Section, key) -> earlier value -> today's.
VALUES: dict[tuple[str, str], dict[Any, Any]] = {("train", "memory"): {"least": "lean"}}


def migrate(tree: Any) -> Any:
    """Today's tree of plain values for one that any earlier version wrote; today's own comes back equal.

    Every place that reads a stored experiment calls it before `from_dict`: the header of our weights, `experiment.yaml`
    of a run, and the metadata of files that were converted. Keys that it does not know stay, for `from_dict` to name.

    Args:
        tree: what was read, of any task. It is left as it is.
    """
    if not isinstance(tree, dict):
        return tree
    return {name: _section(name, value) if isinstance(value, dict) else value for name, value in tree.items()}


def _section(name: Any, section: Tree) -> Tree:
    renamed, dropped = RENAMED.get(name, {}), DROPPED.get(name, ())
    kept = {renamed.get(key, key): value for key, value in section.items() if key not in dropped}
    for (section_name, key), values in VALUES.items():
        if section_name == name and isinstance(kept.get(key), str):
            kept[key] = values.get(kept[key], kept[key])
    return kept
