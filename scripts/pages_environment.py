"""Make or refresh `.venv-pages`, in which the app, the documentation site and the notebook are tested.

gradio needs an older Pillow than the one that the package is tested with, so they have an environment of their own. It
sees the packages of `.venv` through a `.pth` line; those of the extras `app` and `docs` are installed once for all
checkouts, beside the shared packages of `.venv` and in the same way.

`make pages-environment` makes `.venv` first, then starts this with its Python.
"""

from __future__ import annotations

import time
from pathlib import Path

from scripts.environment import (
    PYPROJECT,
    ROOT,
    VENV,
    abi,
    digest,
    ensure_shared,
    fingerprint,
    install_project,
    locked,
    make_venv,
    python_of,
    read_state,
    requirements,
    run,
    say,
    see_packages_of,
    start_over,
    write_state,
)

PAGES = ROOT / ".venv-pages"
PROOF = "import gradio, mkdocs, playwright"


def install(base: Path, environment: Path) -> None:
    """The packages of the extras on top of those that `base` holds."""
    see_packages_of(base, environment)
    pip = (python_of(environment), "-m", "pip", "install", "--quiet")
    run(*pip, *requirements("app", "docs"), why="installing the packages of the app and the site")
    run(python_of(environment), "-c", PROOF, why="importing the installed packages")


def build(base: Path, shared: Path) -> None:
    say(f"installing gradio, MkDocs and Playwright into {shared} (once for all checkouts; a minute or two, 600 MB)")
    make_venv(shared, "--without-pip")
    install(base, shared)
    write_state(shared, abi=abi(), base=str(base), requirements=" ".join(requirements("app", "docs")))


def refresh() -> None:
    # Where .venv holds its packages itself, so does .venv-pages.
    base = Path(read_state(VENV).get("shared") or VENV)
    name = f"pages-{digest(abi(), str(base), *requirements('app', 'docs'))}"
    shared = None if base == VENV else ensure_shared(name, lambda folder: build(base, folder))
    wanted = {"base": str(base), "folder": str(PAGES), "shared": str(shared or ""), "fingerprint": fingerprint()}
    if read_state(PAGES) == wanted:
        return
    # pip, too, is seen through the .pth line.
    start_over(PAGES, "--without-pip")
    if shared:
        see_packages_of(shared, PAGES)
    else:
        install(base, PAGES)
    install_project(PAGES)
    write_state(PAGES, **wanted)


def main() -> None:
    started = time.monotonic()
    with PYPROJECT.open() as handle, locked(handle, "another make is working on an environment; waiting for it"):
        before = read_state(PAGES)
        refresh()
        if read_state(PAGES) != before:
            say(f".venv-pages is ready ({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    main()
