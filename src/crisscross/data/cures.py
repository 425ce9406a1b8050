"""What messages tell people to write or to type, so that it works as it is printed."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crisscross.data.layouts.vocabulary import meaning

DESCRIPTION = "dataset.yaml"
# What `prepare masks` is told to add to the name of a folder of masks.
PREPARED = "-png"
DEFAULTS = (("images", "images"), ("masks", "masks"))


def write_key(root: Path, key: str) -> str:
    """How to add a key to the description of a folder, which need not exist yet.

    >>> write_key(Path("city"), "allow_empty: true")
    'type `crisscross data init city`, then write `allow_empty: true` in city/dataset.yaml'
    """
    text = f"write `{key}` in {root / DESCRIPTION}"
    if (root / DESCRIPTION).is_file():
        return text
    return f"type `crisscross data init {shlex.quote(str(root))}`, then {text}"


def create(root: Path, description: Mapping[str, Any]) -> str:
    """How to write a whole description by hand: one line, which is valid YAML."""
    kept = {key: value for key, value in description.items() if (key, value) not in DEFAULTS}
    # Only here: exported networks are run without PyYAML.
    import yaml

    line = yaml.safe_dump(kept, sort_keys=False, default_flow_style=True, allow_unicode=True, width=1 << 20)
    verb = "put this line into" if (root / DESCRIPTION).is_file() else "create"
    return f"{verb} {root / DESCRIPTION}{'' if verb.startswith('put') else ' with the line'}: {line.strip()}"


def masks_folder(mask: Path) -> Path:
    """The folder that a mask belongs to: the nearest one above it that is named as a folder of masks."""
    return next((parent for parent in mask.parents if meaning(parent.name).role == "mask"), mask.parent)


def prepare_masks(mask: Path, values: str = "0,255") -> str:
    """The command that gives each pixel of a folder's masks the class of the nearest value."""
    folder = masks_folder(mask)
    out = folder.with_name(f"{folder.name}{PREPARED}") if folder.name else folder / f"masks{PREPARED}"
    at = values if "#" not in values else shlex.quote(values)
    return f"`crisscross data prepare masks {shlex.quote(str(folder))} --classes-at {at} --out {shlex.quote(str(out))}`"
