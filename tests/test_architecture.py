"""docs/architecture.md: its picture is the one that the imports give, and the files that it names exist."""

import re
from itertools import pairwise

import pytest
from paths import ROOT, SOURCE

from scripts import draw_architecture

PAGE = ROOT / "docs" / "architecture.md"
LAYERS = {2: ("top",), 1: ("left", "right"), 0: ("base", "other")}
IMPORTS = {"top": {"left", "right", "base"}, "left": {"base"}, "right": {"base"}, "base": set(), "other": set()}


def test_the_picture_is_up_to_date():
    found = draw_architecture.PICTURE.read_text(encoding="utf-8")
    assert found == draw_architecture.picture(), "run: python -m scripts.draw_architecture"


def test_the_picture_shows_every_package_once():
    names = re.findall(r">(\w+)</text>", draw_architecture.picture())
    files = [*(SOURCE / "crisscross").glob("*.py"), *(SOURCE / "crisscross").glob("*/__init__.py")]
    packages = {path.parent.name if path.stem == "__init__" else path.stem for path in files}
    assert sorted(name for name in names if not name.isdigit()) == sorted(packages - {"crisscross", "__main__"})


def test_imports_are_read_wherever_they_stand(tmp_path):
    (tmp_path / "left").mkdir()
    (tmp_path / "top.py").write_text("from crisscross import left\ndef f():\n    import crisscross.right.inner\n")
    (tmp_path / "left" / "inner.py").write_text("from crisscross.left import x\nfrom crisscross.base import y\n")
    for name in ("right", "base"):
        (tmp_path / f"{name}.py").write_text("import torch, crisscross_other\n")
    found = draw_architecture.read_imports(["top", "left", "right", "base", "gone"], tmp_path)
    assert found == {"top": {"left", "right"}, "left": {"base"}, "right": set(), "base": set()}


def test_an_import_that_others_imply_is_left_out():
    assert draw_architecture.reduce(IMPORTS) == {**IMPORTS, "top": {"left", "right"}}


def test_each_arrow_leads_down_one_row_at_a_time():
    rows, chains = draw_architecture.arrange(LAYERS, IMPORTS)
    assert len(chains) == sum(map(len, IMPORTS.values()))
    assert all(lower[2] == upper[2] + 1 for chain in chains for upper, lower in pairwise(chain))
    assert [[node for node in row if not node[1]] for row in rows] == [
        [("top", "", 0)],
        [("left", "", 1), ("right", "", 1)],
        [("base", "", 2), ("other", "", 2)],
    ]


def test_boxes_do_not_overlap():
    layers = draw_architecture.read_layers()
    imports = draw_architecture.read_imports(name for names in layers.values() for name in names)
    rows, _ = draw_architecture.arrange(layers, draw_architecture.reduce(imports))
    place = draw_architecture.positions(rows)
    for row in rows:
        for one, other in pairwise(row):
            between = place[other][0] - place[one][0]
            assert between >= (draw_architecture.box_width(one) + draw_architecture.box_width(other)) / 2
        assert place[row[-1]][0] + draw_architecture.box_width(row[-1]) / 2 < draw_architecture.WIDTH


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_files_that_the_page_names_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    names = {name.rstrip("/") for name in re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.py)`", text)}
    bases = (ROOT, SOURCE / "crisscross", ROOT / "docs")
    missing = sorted(name for name in names if not any((base / name).exists() for base in bases))
    assert not missing and len(names) > 5
