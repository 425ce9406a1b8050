"""The images of a run's page, to show them on another one."""

import re
from html.parser import HTMLParser

# Name of an image, and (caption, data URI) of each of its panels.
Example = tuple[str, list[tuple[str, str]]]
URI = re.compile(r"data:image/(?:jpeg|png);base64,[A-Za-z0-9+/=]+")


def examples(page: str) -> list[Example]:
    """What `crisscross.report.page.figures` wrote into a page; markup and addresses of anything else are left out."""
    reader = _Reader()
    reader.feed(page)
    return [(name.strip(), panels) for name, panels in reader.found if panels]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Example] = []
        self.inside, self.tag = False, ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        said = dict(attributes)
        self.tag = tag
        if tag == "section":
            self.inside = said.get("class") == "row"
            self.found += [("", [])] if self.inside else []
        elif tag == "img" and self.inside and URI.fullmatch(said.get("src") or ""):
            self.found[-1][1].append(("", str(said["src"])))

    def handle_endtag(self, tag: str) -> None:
        self.inside, self.tag = self.inside and tag != "section", ""

    def handle_data(self, data: str) -> None:
        if not self.inside:
            return
        name, panels = self.found[-1]
        if self.tag == "h3":
            self.found[-1] = (name + data, panels)
        elif self.tag == "figcaption" and panels:
            panels[-1] = (panels[-1][0] + data, panels[-1][1])
