"""README.md and docs/: links and anchors lead somewhere, commands and options exist, images are there and small."""

import argparse
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from paths import ROOT
from PIL import Image

from crisscross.cli import COMMANDS, Parser

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^ *(```|~~~).*?^ *\1", re.DOTALL | re.MULTILINE)
CODE = re.compile(rf"{FENCE.pattern}|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
LARGEST = 150_000


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain.replace("`", "").replace("*", "")).replace(" ", "-")


@cache
def anchors(page: Path) -> set[str]:
    return {slug(match[1]) for match in re.finditer(r"^#+ (.+)$", FENCE.sub("", text_of(page)), re.MULTILINE)}


def broken(page: Path, text: str) -> Iterator[str]:
    """The links of a page, without those to other hosts, that lead nowhere."""
    for match in LINK.finditer(CODE.sub("", text)):
        if re.match(r"\w+:", match[1]):
            continue
        name, _, anchor = match[1].partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield match[1]


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command `crisscross ...` in the code of a page, continued lines joined."""
    for code in CODE.finditer(text):
        for line in code[0].strip("`").replace("\\\n", " ").splitlines():
            found = re.match(r"\s*(?:\$ )?crisscross ([a-z]+\b.*)", line)
            if found:
                yield re.split(r"\s+#|\s*&&", found[1])[0].split()


@cache
def options(command: str, action: str) -> set[str] | None:
    """The options of a command, or of an action of `crisscross data`; None if there is none of that name."""
    if command not in COMMANDS:
        return None
    parser: argparse.ArgumentParser = Parser(module=f"crisscross.cli.{command}")
    parser.fill()
    for part in parser._actions:
        if isinstance(part, argparse._SubParsersAction):
            if action not in part.choices:
                return None
            parser = part.choices[action]
            parser.fill()
    return set(parser._option_string_actions)


def wrong(words: list[str]) -> list[str]:
    """What a command of a page names that does not exist."""
    if words[0] in ("--help", "--version") or (words[0] not in COMMANDS and len(words) == 1):
        return []
    known = options(words[0], words[1] if len(words) > 1 else "")
    if known is None:
        return words[:2]
    given = [re.match(r"[(\[]?(--[a-z0-9-]+)", word) for word in words[1:]]
    return [match[1] for match in given if match and match[1] not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere_and_commands_exist(page: Path):
    text = text_of(page)
    assert list(broken(page, text)) == []
    assert [(words, wrong(words)) for words in commands(text) if wrong(words)] == []


def test_the_checks_see_what_is_wrong():
    page = ROOT / "README.md"
    text = "[a](docs/data.md) [b](docs/nowhere.md) [c](docs/data.md#nothing) [d](https://x.org/#y) `[e](no.md)`\n"
    assert list(broken(page, text)) == ["docs/nowhere.md", "docs/data.md#nothing"]
    assert list(broken(page, "[a](docs/zoo.md#human-parsing-lip) [b](#nothing)")) == ["#nothing"]
    text = "```sh\ncrisscross train demo \\\n  --dta X  # --no\n  crisscross data nit X\n```\n"
    text += "`crisscross trian x`, crisscross no way"
    assert [wrong(words) for words in commands(text)] == [["--dta"], ["data", "nit"], ["trian", "x"]]
    assert len([words for page in PAGES for words in commands(text_of(page))]) > 100


def test_images_of_the_pages_are_there_and_small():
    images = sorted((ROOT / "docs").rglob("images/*"))
    assert {path.suffix for path in images} <= {".webp", ".svg", ".css"}
    assert [path.name for path in images if path.stat().st_size > LARGEST] == []
    shown = re.findall(r"!\[([^\]]+)\]\((docs/images/[^)]+)\)", text_of(ROOT / "README.md"))
    assert len(shown) >= 2
    for description, name in shown:
        assert len(description) > 40
        with Image.open(ROOT / name) as image:
            assert image.width >= 800


def test_the_readme_is_short():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 120


def test_every_page_is_in_the_navigation():
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    site = yaml.load(text_of(ROOT / "mkdocs.yml"), Loader)
    listed = set(re.findall(r"[\w/.-]+\.md", str(site["nav"])))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in PAGES if path.is_relative_to(ROOT / "docs")}
    assert pages - listed == set()
    others = {"index.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/first_steps.ipynb.md"}
    assert listed - pages == others
