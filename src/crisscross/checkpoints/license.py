"""The license of weights: it goes with whatever is trained from them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crisscross.config.documents import YAML_BYTES


def license_of(path: Path, facts: Mapping[str, Any]) -> str | None:
    """The license of a weights file: of its facts, else of the model card beside it; None where neither names one.

    The card is `NAME.md` beside `NAME.safetensors`, or `README.md` beside `model.safetensors` as the Hub has it.
    """
    if isinstance(said := facts.get("license"), str) and said:
        return said
    card = path.with_name("README.md") if path.stem == "model" else path.with_suffix(".md")
    if not card.is_file():
        return None
    with card.open(encoding="utf-8", errors="replace") as file:
        text = file.read(YAML_BYTES)
    front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:[ \t]*([\w.+-]+)[ \t]*$", front[1], re.MULTILINE) if front else None
    return found[1] if found else None


def license_note(license: str | None) -> str:
    """What a line about weights to start from adds about their license, or ""."""
    if not license:
        return ""
    limit = ", not for commercial use" if "-nc" in license.lower() else ""
    return f"; license {license}{limit}, as the weights of this run"
