"""Descriptions, lists and annotations made by chance: each is read as it says, or refused in one line."""

import json
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzzing import read_or_refused, tries
from hypothesis import given
from hypothesis import strategies as st
from instances_data import tree_of, write_coco
from small_data import write_folder

from crisscross.data import DataSet, open_folder
from crisscross.data.files.coco_masks import decode
from crisscross.data.files.folders import name_key
from crisscross.data.labels import label_table
from crisscross.data.sets.coco_stuff import coco_stuff_plan
from crisscross.instances.annotations import InstanceSplit, open_coco_instances
from crisscross.instances.check import check_split
from crisscross.instances.samples import target_of

pytestmark = pytest.mark.slow


WORDS = st.sampled_from(
    ["a", "b", "road", "train.txt", "val.txt", "images", "masks", "..", "/", "", " ", "~", "yes", "010", "1.10"]
)
ODD = st.sampled_from(
    ["caf\u00e9", "cafe\u0301", "x" * 300, "a\nb", "\x1b[31m", "\u2028", "train_0.png", "*a", "!!int 3"]
)
NUMBERS = st.one_of(
    st.integers(-2, 300),
    st.sampled_from([10**9, 2**31, 2**32 - 1, 2**63, 10**30, -(10**30), 1e308, -1e9, 0.5, float("nan"), float("inf")]),
    st.floats(-200, 200),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, ODD, st.text(max_size=8))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.one_of(WORDS, SCALARS), inner, max_size=3)),
    max_leaves=8,
)


def usually(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly values of the right kind."""
    return st.integers(0, 7).flatmap(lambda number: right if number else VALUES)


NAMED = st.one_of(st.just(["a", "b", "c"]), st.lists(st.one_of(WORDS, ODD, st.integers(0, 9)), min_size=2, max_size=4))
COLORS = st.lists(st.lists(st.integers(0, 256), min_size=3, max_size=3), min_size=3, max_size=3)
DESCRIPTIONS = st.fixed_dictionaries(
    {"classes": usually(NAMED)},
    optional={
        "palette": usually(COLORS),
        "ignore": usually(st.integers(2, 256)),
        "void": usually(st.lists(st.integers(2, 256), max_size=2)),
        "images": usually(st.one_of(st.just("images"), st.just("./images"), WORDS, ODD)),
        "masks": usually(st.one_of(st.just("masks"), st.just("masks/"), WORDS, ODD)),
        "video": usually(st.booleans()),
        "splits": usually(st.dictionaries(WORDS | ODD, st.just("val.txt") | st.just("train.txt") | WORDS, max_size=2)),
        "other": VALUES,
    },
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("fuzz") / "set", {"train": 3, "val": 2})


def opened(root: Path) -> DataSet | None:
    """The data set of a folder, if it is none that is refused in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_or_refused(open_folder, root, where=root)


@tries(3500)
@given(DESCRIPTIONS, st.booleans())
def test_descriptions(root: Path, values: dict[str, Any], flow: bool) -> None:
    text = yaml.dump(values, default_flow_style=flow, allow_unicode=True, sort_keys=False)
    (root / "dataset.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    dataset = opened(root)
    if dataset is None:
        return
    # What is a text in the file is a name as it is; a whole number is its digits.
    assert dataset.classes == tuple(str(name) for name in values["classes"])
    assert len(set(dataset.classes)) == len(dataset.classes) == len(dataset.palette) >= 2
    assert dataset.ignore == values.get("ignore", 255) and label_table(dataset)[list(dataset.void)].tolist() == (
        [dataset.ignore] * len(dataset.void)
    )
    for split in dataset.splits.values():
        assert all(pair.image.is_relative_to(root) for pair in split)


@tries(6000)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))))
def test_descriptions_of_any_bytes(root: Path, content: bytes) -> None:
    (root / "dataset.yaml").write_bytes(content)
    opened(root)
    (root / "dataset.yaml").write_bytes(b"classes: [a, b]\n" + content)
    opened(root)


NAMES = st.sampled_from([*(f"train_{n}" for n in range(4)), "val_0", "val_1.png", "val_1.PNG", "../images/val_0"])
LINES = st.one_of(
    st.lists(NAMES | st.just(""), max_size=6), st.lists(st.one_of(NAMES, WORDS, ODD, st.text(max_size=12)), max_size=4)
)


@tries(4000)
@given(LINES, st.sampled_from(["\n", "\r\n", "\n\n"]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
def test_lists(root: Path, lines: list[str], end: str, encoding: str) -> None:
    (root / "dataset.yaml").write_text("classes: [a, b]\n", encoding="utf-8")
    (root / "train.txt").write_bytes(end.join(lines).encode(encoding, "replace"))
    dataset = opened(root)
    if dataset is not None and encoding.startswith("utf-8"):
        wanted = [name_key(line.strip()) for text in lines for line in text.splitlines() if line.strip()]
        assert [pair.name for pair in dataset.splits["train"]] == [
            name if name in ("train_0", "train_1", "train_2", "val_0", "val_1") else name.rsplit(".", 1)[0]
            for name in wanted
        ]


@tries(6000)
@given(st.binary(max_size=40))
def test_lists_of_any_bytes(root: Path, content: bytes) -> None:
    (root / "dataset.yaml").write_text("classes: [a, b]\n", encoding="utf-8")
    (root / "train.txt").write_bytes(content)
    dataset = opened(root)
    images = {root / "images" / f"{split}_{number}.png" for split in ("train", "val") for number in range(3)}
    assert dataset is None or {pair.image for pair in dataset.splits.get("train", ())} <= images


POLYGONS = st.lists(st.lists(st.one_of(st.floats(-300, 300), NUMBERS), min_size=6, max_size=10), min_size=1, max_size=3)
RUNS = st.fixed_dictionaries(
    {
        "size": st.one_of(st.just([64, 96]), st.lists(NUMBERS, min_size=2, max_size=2)),
        "counts": st.one_of(st.lists(NUMBERS, max_size=5), st.text(st.characters(max_codepoint=127), max_size=12)),
    }
)


@st.composite
def annotation_trees(draw: st.DrawFn) -> Any:
    """A sound tree in which one or two values were replaced, fields as often as the many corners of polygons."""
    tree = json.loads(json.dumps(tree_of(2)))
    for _ in range(draw(st.integers(1, 2))):
        above, key, inner = None, None, tree
        while isinstance(inner, (dict, list)) and inner and (above is None or draw(st.integers(0, 5))):
            key = draw(st.sampled_from(list(inner) if isinstance(inner, dict) else range(len(inner))))
            above, inner = inner, inner[key]
        kind = st.one_of(st.floats(-40, 160), NUMBERS) if isinstance(inner, float) else SCALARS
        above[key] = deepcopy(draw(st.one_of(kind, kind, st.one_of(POLYGONS, RUNS, VALUES))))
    return tree


def used(split: InstanceSplit) -> None:
    """All that training and scoring ask of annotations."""
    check_split(split)
    split.as_coco()
    numbers = {number: place for place, number in enumerate(split.categories, 1)}
    for image in split.images:
        if image.height * image.width > 10**6:
            continue
        target = target_of(split, image, numbers)
        assert ((target["boxes"] >= 0) & (target["boxes"] <= max(image.height, image.width))).all()
        for entry in split.annotations[image.number]:
            assert decode(entry["segmentation"], image.height, image.width).shape == (
                image.height,
                image.width,
            )


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_coco(tmp_path_factory.mktemp("fuzz") / "coco", tree_of(2), ("train", "val"))
    (root / "annotations" / "stuff_val2017.json").write_text(json.dumps(tree_of(2)))
    return root


@tries(4500)
@given(annotation_trees())
def test_annotations(coco: Path, tree: Any) -> None:
    file = coco / "annotations" / "instances_train2017.json"
    file.write_text(json.dumps(tree, skipkeys=True))
    read_or_refused(lambda: used(open_coco_instances(coco).split("train")), where=file.name)


@tries(2000)
@given(annotation_trees(), st.booleans())
def test_maps_of_stuff(coco: Path, tree: Any, stuff: bool) -> None:
    file = coco / "annotations" / f"{'stuff' if stuff else 'instances'}_val2017.json"
    before = file.read_text()
    file.write_text(json.dumps(tree, skipkeys=True))
    read_or_refused(make_maps, coco)
    file.write_text(before)


def make_maps(coco: Path) -> None:
    for target, make in coco_stuff_plan(coco, coco).jobs.items():
        assert target.parent == coco / "stuffthingmaps" / "val2017"
        size = make.args[0]
        if size[0] * size[1] <= 10**6:
            make(target)
