"""The few shapes that the charts are made of, as SVG text. Lengths are units of the chart's view box."""

from collections.abc import Sequence
from html import escape


def tag(name: str, body: str = "", /, **attributes: object) -> str:
    """An element: `tag("text", "a", x=1, text_anchor="end")`. The body is markup, escaped by whoever wrote it."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{_value(v)}"' for key, v in attributes.items())
    return f"<{name}{written}>{body}</{name}>"


def _value(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else escape(str(value))


def text(content: str, x: float, y: float, anchor: str = "start", class_: str = "tick", **attributes: object) -> str:
    """A line of text; `content` is plain."""
    return tag("text", escape(content), x=x, y=y, text_anchor=anchor, class_=class_, **attributes)


def hint(content: str) -> str:
    """What a pointer that rests on the surrounding element reads; `content` is plain."""
    return tag("title", escape(content))


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str, **attributes: object) -> str:
    """Straight lines from point to point."""
    steps = " ".join(f"{'ML'[index > 0]}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(points))
    return tag("path", d=steps, class_=class_, **attributes)


def drawing(
    body: str, width: float, height: float, label: str, class_: str, largest: float = 1.15, least: float = 0.0
) -> str:
    """A whole SVG; `label` is what a screen reader says.

    It is as wide as the page allows, at most `largest` pixels for each of its units and at least `least` pixels.
    """
    limits = f"max-width:{largest * width:.0f}px" + (f";min-width:{least:.0f}px" if least else "")
    box = f"0 0 {width:g} {height:g}"
    return tag("svg", body, viewBox=box, role="img", aria_label=label, class_=class_, style=limits)


def rgb(color: Sequence[int]) -> str:
    """`#rrggbb`."""
    return "#" + "".join(f"{int(channel):02x}" for channel in color)
