"""What an exported file says of itself, as one JSON text in its metadata."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from crisscross import __version__
from crisscross.config.documents import parse_json
from crisscross.config.parse import from_dict
from crisscross.errors import CrissCrossError, shown
from crisscross.inference.card import Card

# The key under which a file keeps the text.
KEY = "crisscross"
FORMAT = "crisscross-export-1"


@dataclass(frozen=True)
class Passport:
    """The card of an exported network, and facts for people and for `crisscross evaluate`.

    Attributes:
        card: what predictions depend on.
        name: of the experiment.
        license: of the weights; "" where nothing says it.
        precision: `float32`, `float16` or `int8`.
        data: `name`, `val_split` and `test_split` of the data set that the network was trained on.
        version: of the package that wrote the file.
    """

    card: Card
    name: str = "custom"
    license: str = ""
    precision: str = "float32"
    data: dict[str, str] = field(default_factory=dict)
    version: str = __version__

    def text(self) -> str:
        """The JSON text; `classes` and all else of the card stand at its top level."""
        facts = {key: getattr(self, key) for key in ("version", "name", "license", "precision", "data")}
        return json.dumps({"format": FORMAT, **facts, **asdict(self.card)})


def passport_of(text: str, source: str) -> Passport:
    """The passport of a JSON text.

    Args:
        text: see `Passport.text`; a card that a person wrote needs `classes` alone.
        source: the file, for messages.

    Raises:
        CrissCrossError: no JSON, an unknown key or format, or a value out of range.
    """
    values = parse_json(text, f"{source}: its card")
    if not isinstance(values, dict):
        raise CrissCrossError(f"{source}: its card must be a mapping of keys to values, got {shown(values)}")
    written = values.pop("format", FORMAT)
    if written != FORMAT:
        raise CrissCrossError(f"{source}: written by another version ({shown(written)}); this one reads {FORMAT}")
    facts = {key: values.pop(key) for key in ("version", "name", "license", "precision") if key in values}
    facts = {key: str(value) for key, value in facts.items()}
    data = values.pop("data", {})
    try:
        card = _card(values)
    except CrissCrossError as error:
        raise CrissCrossError(f"{source}: its card: {error}") from error
    names = {str(key): str(value) for key, value in data.items()} if isinstance(data, dict) else {}
    return Passport(card, data=names, **facts)


def _card(values: dict[str, Any]) -> Card:
    from crisscross.config import DataConfig
    from crisscross.data.palette import default_palette

    if not values.get("classes"):
        raise CrissCrossError('"classes" is missing: a list of the names of the classes')
    keys = ("classes", "palette", "flip_pairs", "ignore")
    # Checks them as it does for a training.
    data = from_dict(DataConfig, {key: values.pop(key) for key in keys if key in values})
    palette = data.palette or default_palette(data.classes)
    values |= {"classes": [], "palette": []}
    card = from_dict(Card, values)
    said = {"classes": data.classes, "palette": palette, "flip_pairs": data.flip_pairs, "ignore": data.ignore}
    return Card(**{**{key: getattr(card, key) for key in card.__dataclass_fields__}, **said})
