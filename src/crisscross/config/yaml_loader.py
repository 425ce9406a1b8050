"""PyYAML's loader, limited to what `crisscross.config.documents` reads."""

import re
from typing import Any, NoReturn

import yaml

from crisscross.config.documents import DEPTH, TOO_DEEP, whole_number


class Loader(yaml.SafeLoader):
    """YAML without what a configuration has no use for: dates, numbers in other bases, aliases and tags.

    What it reads as something other than text, PyYAML quotes when it writes it as text.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own way
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            self.refuse(f"the alias *{event.anchor}: write the value itself", event)
        if event.tag is not None:
            self.refuse(f"the tag {event.tag}: write the value alone", event)
        self.depth += 1
        if self.depth > DEPTH + 1:
            self.refuse(TOO_DEEP, event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (dict, list)) or key in made:
                self.refuse("a list or mapping as a key" if isinstance(key, (dict, list)) else f"{key} twice", key_node)
            made[key] = self.construct_object(value_node, deep=True)
        return made

    def refuse(self, what: str, at: Any) -> NoReturn:
        raise yaml.constructor.ConstructorError(None, None, what, at.start_mark)


_TAG = "tag:yaml.org,2002:"
for _kind, _pattern, _first in (
    ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", [*"yYnNtTfFoO"]),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    # `+1` stays text: numbers are written without a plus sign.
    ("int", r"0|-?[1-9][0-9]*", [*"-0123456789"]),
    (
        "float",
        r"(?:[-+]?[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        [*"-+.0123456789"],
    ),
):
    Loader.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(f"(?:{_pattern})$"), _first)
Loader.add_constructor(f"{_TAG}int", lambda loader, node: whole_number(node.value))
Loader.add_constructor(f"{_TAG}map", Loader.construct_mapping)
