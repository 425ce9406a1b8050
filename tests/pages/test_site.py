"""scripts/site_hooks.py and mkdocs.yml, on a small repository: what the site holds and what stops it."""

import re
import shutil
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort
from paths import ROOT

README = """# The project

See [docs/page.md](docs/page.md), [a part](docs/page.md#a-part-of-it) and [an example](examples/own.py).

![A picture](docs/images/picture.svg)
"""
PAGE = """# A page with a title

## A `part` of it

[Back](../README.md#the-project), [a notebook](../examples/first.ipynb), [a folder](../examples), `[no](link.md)`.

```md
[no](../nowhere.md)
```
"""
NOTEBOOK = (
    '{"cells": [{"cell_type": "markdown", "source": ["# First"]}, {"cell_type": "code", "source": ["print(1)"]}]}'
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the project's hooks and its checks of links, and a theme of its own, which is quick."""
    for folder in ("docs/images", "examples", "scripts", "theme"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "site_hooks.py", tmp_path / "scripts")
    texts = {
        "README.md": README,
        "CHANGELOG.md": "# Changes",
        "CONTRIBUTING.md": "# Contributing",
        "docs/page.md": PAGE,
        "docs/images/picture.svg": "<svg/>",
        "examples/own.py": "print('own')\n",
        "examples/first.ipynb": NOTEBOOK,
        "theme/main.html": "<html><body>{{ page.content }}</body></html>",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    kept = [re.search(rf"^{key}:.*\n(?:(?: .*)?\n)*", settings, re.MULTILINE)[0] for key in ("validation", "hooks")]
    kept += re.findall(r"^(?:strict|site_dir|use_directory_urls):.*\n", settings, re.MULTILINE)
    assert len(kept) == 5
    own = "site_name: s\nplugins: []\ntheme: {name: null, custom_dir: theme}\nmarkdown_extensions: [fenced_code]\n"
    nav = "nav: [index.md, page.md, CHANGELOG.md, CONTRIBUTING.md]\n"
    (tmp_path / "mkdocs.yml").write_text("".join([own, nav, *kept]), encoding="utf-8")
    return tmp_path


def site(repository: Path) -> Path:
    config = load_config(str(repository / "mkdocs.yml"))
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    return repository / "build" / "site"


def test_links_lead_to_what_lies_beside_the_pages(repository: Path):
    built = site(repository)
    first = (built / "index.html").read_text()
    assert '<a href="page.html">A page with a title</a>' in first
    assert '<a href="page.html#a-part-of-it">a part</a>' in first
    assert '<a href="examples/own.py.html">an example</a>' in first
    assert 'src="images/picture.svg"' in first
    page = (built / "page.html").read_text()
    assert '<a href="index.html#the-project">Back</a>' in page
    assert "[no](link.md)" in page and "[no](../nowhere.md)" in page
    assert "print('own')" in (built / "examples" / "own.py.html").read_text()
    assert "print(1)" in (built / "examples" / "first.ipynb.html").read_text()
    assert "own.py" in (built / "examples.html").read_text()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("docs/page.md", "[a](nowhere.md)"),
        ("docs/page.md", "[a](../nowhere.md)"),
        ("README.md", "[a](docs/page.md#nothing)"),
        ("docs/other.md", "# Not in the navigation"),
        ("README.md", '<img src="https://example.org/badge.svg">'),
        ("README.md", "![badge](//example.org/badge.svg)"),
        ("theme/main.html", '<script async src="https://example.org/x.js"></script>'),
        ("docs/images/site.css", "@import 'https://example.org/x.css';"),
        ("docs/images/site.css", "a { background: url(//example.org/x.png) }"),
    ],
)
def test_what_stops_the_site(repository: Path, name: str, text: str):
    with (repository / name).open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")
    with pytest.raises(Abort):
        site(repository)
