"""Hooks of mkdocs.yml: pages and files that docs/ links to elsewhere in the repository become part of the site.

The pages are written for GitHub, where `../examples/own_head.py` is a link like any other. Here such a file gets a page
under its path in the repository, README.md is the first page, and every link is rewritten to where its target went. A
page that would load anything from another host fails the build.
"""

import json
import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = {".py": "python", ".mjs": "js", ".jsonl": "json", ".yaml": "yaml", ".txt": "text"}
COPIED = {".png", ".svg", ".webp", ".gif", ".jpg"}
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
# A link whose text is the name of its file.
NAMED = re.compile(r"\[(?:[\w-]+/)*[\w-]+\.md\](?=\(([^)\s#]+))")
# What a browser fetches by itself; the target of an <a> waits for a click.
FETCHED = re.compile(
    r"<(?:script|img|link|source|iframe|video|object|embed)\b[^>]*?\b(?:src|href|data)=[\"']?(?:https?:)?//[^\"'\s>]+"
)
FETCHED_BY_CSS = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^\"')\s]+")
warn = logging.getLogger("mkdocs.hooks.site").warning


def on_files(files: Any, config: Any) -> Any:
    """Add README.md, what is in the navigation beside docs/, and whatever a page links to outside of docs/."""
    known: set[str] = set()
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    waiting += ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
    while waiting:
        name = waiting.pop()
        if name in known or not (ROOT / name).exists():
            continue
        known.add(name)
        if not name.startswith("docs/"):
            files.append(_file(name, config))
        if name.endswith((".md", ".ipynb")):
            waiting += [target for target in _targets(name) if not target.startswith("docs/")]
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrite the links of a page to where their targets lie in the site; `[data.md](data.md)` gets its title."""
    source = page.file.src_uri
    origin = _origin(source)

    def change(text: str) -> str:
        titled = NAMED.sub(lambda match: _titled(match, origin), text)
        return LINK.sub(lambda match: _moved(match, origin, source), titled)

    return _outside_code(markdown, change)


def on_post_build(config: Any) -> None:
    """Warn, which strict mode makes an error, about everything that a page would load from another host."""
    for path in sorted(Path(config["site_dir"]).rglob("*")):
        pattern = {".html": FETCHED, ".css": FETCHED_BY_CSS}.get(path.suffix)
        if pattern:
            for match in pattern.finditer(path.read_text(encoding="utf-8")):
                warn("%s loads from another host: %s", path.relative_to(config["site_dir"]), match[0])


def _place(name: str) -> str:
    """Where a file of the repository lies among the sources of the site."""
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    if name == "README.md":
        return "index.md"
    return name if Path(name).suffix in COPIED | {".md"} else f"{name}.md"


def _origin(source: str) -> str:
    """The inverse of `_place`."""
    if source == "index.md":
        return "README.md"
    inside = f"docs/{source}"
    if (ROOT / inside).exists():
        return inside
    return source if (ROOT / source).exists() else source.removesuffix(".md")


def _file(name: str, config: Any) -> Any:
    """A file of the repository as one of the site, which the navigation may leave out."""
    path = ROOT / name
    what = {"abs_src_path": str(path)} if path.suffix in COPIED else {"content": _page(name)}
    return File.generated(config, _place(name), inclusion=InclusionLevel.NOT_IN_NAV, **what)


def _page(name: str) -> str:
    """A file or folder of the repository as a page in Markdown."""
    path = ROOT / name
    if path.is_dir():
        return f"# {name}\n\n" + "\n".join(f"- `{one.name}`" for one in sorted(path.iterdir()) if one.is_file())
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    if path.suffix == ".ipynb":
        return "\n\n".join(_cells(json.loads(text)))
    return f"# {path.name}\n\n```{LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n```\n"


def _cells(notebook: Any) -> Iterator[str]:
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        yield f"```python\n{text}\n```" if cell["cell_type"] == "code" else text


def _targets(name: str) -> list[str]:
    """Files of the repository that a page links to, from the root."""
    found: list[str] = []

    def note(text: str) -> str:
        for match in LINK.finditer(text):
            if "://" not in match[2]:
                found.append(posixpath.normpath(posixpath.join(posixpath.dirname(name), match[2])))
        return text

    _outside_code(_page(name), note)
    return found


def _titled(match: re.Match[str], origin: str) -> str:
    """The title of the page in the place of its file's name."""
    target = ROOT / posixpath.join(posixpath.dirname(origin), match[1])
    title = re.search(r"^# (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE) if target.exists() else None
    return f"[{title[1]}]" if title else match[0]


def _moved(match: re.Match[str], origin: str, source: str) -> str:
    if "://" in match[2] or match[2].startswith("mailto:"):
        return match[0]
    target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), match[2]))
    return match[1] + posixpath.relpath(_place(target), posixpath.dirname(source) or ".") + (match[3] or "")


def _outside_code(markdown: str, change: Any) -> str:
    """A page with everything but code changed."""
    found, end = [], 0
    for code in CODE.finditer(markdown):
        found += [change(markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*found, change(markdown[end:])])
