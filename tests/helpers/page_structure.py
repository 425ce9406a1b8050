"""What an HTML page is made of."""

from html.parser import HTMLParser

VOID = {"meta", "img"}


class Structure(HTMLParser):
    """Records the tags that are opened and closed, the texts, and every address."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.tags, self.texts, self.addresses = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())
