"""COCO's annotations: what is read, what is left out, and what is said about damaged ones."""

import json

import numpy as np
import pytest
import torch
from instances_data import CATEGORIES, HEIGHT, WIDTH, annotation, bar, disc, run_lengths, tree_of, write_coco
from PIL import Image

from crisscross.config import from_dict
from crisscross.data.files.coco_masks import check_text, checked, decode, encode
from crisscross.errors import CrissCrossError
from crisscross.instances.annotations import open_coco_instances
from crisscross.instances.config import InstanceExperiment
from crisscross.instances.samples import InstanceSamples, mirrored, target_of, whole_images


def split_of(root, annotations, **changes):
    tree = tree_of()
    tree["annotations"] = annotations
    return open_coco_instances(write_coco(root, tree | changes)).split("train")


def inside(polygon, height=HEIGHT, width=WIDTH):
    """Pixels whose center lies in a polygon, by the crossing rule: a definition of its own."""
    corners = list(zip(polygon[0::2], polygon[1::2], strict=True))
    y, x = np.mgrid[:height, :width] + 0.5
    odd = np.zeros((height, width), bool)
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        if y1 != y2:
            crosses = (y1 > y) != (y2 > y)
            odd ^= crosses & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return odd


def test_polygons_become_the_pixels_inside_them():
    shape = disc(40, 30, 20)
    mask = decode([shape], HEIGHT, WIDTH)
    # Only pixels of the border may be counted otherwise.
    assert (mask.astype(bool) ^ inside(shape)).sum() <= 0.1 * inside(shape).sum()
    both = decode([bar(10, 10, 20, 10), bar(50, 30, 10, 20)], HEIGHT, WIDTH)
    assert both.sum() == 400 and both[10:20, 10:30].all() and both[30:50, 50:60].all()


def test_polygons_and_both_run_lengths_give_the_same_mask():
    shape = bar(10, 5, 30, 20)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:25, 10:40] = 1
    counts = {"size": [HEIGHT, WIDTH], "counts": run_lengths(mask)}
    text = encode(mask)
    assert isinstance(text["counts"], str)
    for given in ([shape], counts, text):
        assert np.array_equal(decode(given, HEIGHT, WIDTH), mask)


def test_a_split_of_mixed_shapes(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[20:40, 30:50] = True
    crowd = {"size": [HEIGHT, WIDTH], "counts": run_lengths(mask)}
    split = split_of(
        tmp_path,
        [
            annotation(1, 100, 3, [disc(20, 20, 10)], [10, 10, 20, 20]),
            annotation(2, 100, 17, encode(mask), [30, 20, 20, 20]),
            annotation(3, 100, 17, crowd, [30, 20, 20, 20], iscrowd=1),
            annotation(4, 101, 17, crowd, [30, 20, 20, 20], iscrowd=1),
            annotation(5, 102, 3, [bar(80, -20, 40, 50)], [80, -20, 40, 50]),
        ],
    )
    assert (split.classes, split.categories) == (("disc", "bar"), (3, 17))
    assert len(split) == 4 and [image.number for image in split.learnable] == [100, 102]
    assert split.report == ("1 annotations beyond their image: clipped",)
    label = {3: 1, 17: 2}
    first = target_of(split, split.images[0], label)
    assert first["labels"].tolist() == [1, 2] and first["boxes"].tolist() == [[10, 10, 30, 30], [30, 20, 50, 40]]
    assert np.array_equal(first["masks"][1].numpy(), mask)
    # The crowd alone is nothing to learn from.
    assert target_of(split, split.images[1], label)["boxes"].shape == (0, 4)
    clipped = target_of(split, split.images[2], label)
    assert clipped["boxes"].tolist() == [[80, 0, 96, 30]]
    assert clipped["masks"].sum() == 16 * 30 and clipped["masks"][0, :30, 80:].all()


def test_annotations_without_area_are_left_out_and_counted(tmp_path):
    split = split_of(
        tmp_path,
        [
            annotation(1, 100, 3, [], [10, 10, 20, 20]),
            annotation(2, 100, 3, [[10, 10, 20, 20]], [10, 10, 10, 10]),
            annotation(3, 100, 3, [disc(20, 20, 10)], [10, 10, 0, 20]),
            annotation(4, 100, 3, [bar(200, 10, 20, 20)], [200, 10, 20, 20]),
            annotation(5, 100, 3, [disc(20, 20, 10)], [10, 10, 20, 20]),
            annotation(6, 101, 3, [bar(10, 10, 1, 30)], [10, 10, 1, 30]),
        ],
    )
    assert split.report == (
        "2 annotations with an empty mask: left out",
        "2 annotations without area inside their image: left out",
    )
    assert [entry["id"] for entry in split.annotations[100]] == [5]
    # A sliver counts in evaluation and is not learned from.
    assert [entry["id"] for entry in split.annotations[101]] == [6]
    assert [image.number for image in split.learnable] == [100]


def test_missing_fields_are_found_from_the_mask(tmp_path):
    entry = annotation(1, 100, 3, [bar(10, 20, 30, 10)], [10, 20, 30, 10])
    for name in ("bbox", "area", "iscrowd"):
        del entry[name]
    (found,) = split_of(tmp_path, [entry]).annotations[100]
    assert found["bbox"] == [10, 20, 30, 10] and found["area"] == 300 and found["iscrowd"] == 0


def test_mirror_image(tmp_path):
    split = open_coco_instances(write_coco(tmp_path)).split("train")
    target = target_of(split, split.images[0], {3: 1, 17: 2})
    image = torch.arange(3 * HEIGHT * WIDTH).reshape(3, HEIGHT, WIDTH).float()
    turned, there = mirrored(image, target)
    assert torch.equal(turned[:, :, 0], image[:, :, -1])
    # The bar lies in columns 60 to 83 of 96.
    assert there["boxes"][1].tolist() == [12, 8, 36, 24]
    columns = there["masks"][1].any(0).nonzero().flatten()
    assert (columns.min(), columns.max()) == (12, 35)


def test_samples_follow_from_seed_and_number(tmp_path):
    split = open_coco_instances(write_coco(tmp_path)).split("train")
    data = {"classes": ["disc", "bar"], "categories": [3, 17]}
    experiment = from_dict(InstanceExperiment, {"task": "instances", "data": data, "augment": {"flip": 0.25}})
    one, other = InstanceSamples(split, experiment), InstanceSamples(split, experiment)
    for n in (7, 2):
        assert torch.equal(one[n][0], other[n][0]) and one[n][2] == other[n][2]
    # Every epoch has each of the three images with instances once.
    names = [one.images[one.place_at(n, 3)].name for n in range(30)]
    assert all(sorted(names[k : k + 3]) == ["p0", "p1", "p2"] for k in range(0, 30, 3)) and len(set(names)) == 3
    assert len({tuple(names[k : k + 3]) for k in range(0, 30, 3)}) > 1
    flipped = [float(one[n][1]["boxes"][1, 0]) == 12 for n in range(400)]
    assert 0.17 < sum(flipped) / 400 < 0.33
    assert one[0][0].min() >= 0 and 0.5 < one[0][0].max() <= 1


def bad(root, change):
    tree = tree_of()
    write_coco(root, tree)
    change(tree)
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(tree))
    return lambda: open_coco_instances(root).split("train")


def set_in(section, place, **values):
    return lambda tree: tree[section][place].update(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tree: tree.pop("images"), "has no list 'images'"),
        (lambda tree: tree["images"].clear(), "'images' is empty"),
        (lambda tree: tree["categories"].clear(), "'categories' is empty"),
        (set_in("annotations", 0, image_id=999), "annotation 0 belongs to image 999"),
        (set_in("annotations", 0, category_id=5), "annotation 0 has category 5"),
        (set_in("annotations", 1, id=0), "annotations has the id 0 twice"),
        (set_in("images", 0, height="64"), "images[0]: height must be a whole number, got '64'"),
        (set_in("annotations", 0, segmentation="x"), "segmentation must be polygons or run lengths"),
        (set_in("annotations", 0, segmentation=[[1, 2, 3, 4, 5]]), "a polygon must be a list x, y"),
        (set_in("annotations", 0, segmentation=[[1, 2, 3, 4, 5, None]]), "a polygon must be a list x, y"),
        (set_in("annotations", 0, bbox=[1, 2, 3]), "bbox must be [left, top, width, height]"),
        (set_in("annotations", 1, segmentation={"size": [9, 9], "counts": [81]}), "its image is [64, 96]"),
        (set_in("annotations", 1, segmentation={"size": [64, 96], "counts": [7]}), "do not add up to 64 x 96"),
        (set_in("annotations", 1, segmentation={"size": [64, 96], "counts": 7}), "counts of run lengths must be"),
        (set_in("annotations", 0, iscrowd="0"), "annotation 0: iscrowd must be 0 or 1, got '0'"),
        (set_in("annotations", 0, iscrowd=[1]), "iscrowd must be 0 or 1, got [1]"),
        (set_in("annotations", 0, iscrowd=2), "iscrowd must be 0 or 1, got 2"),
        (set_in("annotations", 0, area="312"), "area must be a number of at least 0, got '312'"),
        (set_in("annotations", 0, area=-1), "area must be a number of at least 0, got -1"),
        (set_in("annotations", 0, bbox="1 2 3 4"), "bbox must be [left, top, width, height], got '1 2 3 4'"),
        (set_in("annotations", 0, bbox=[1, 2, 3, True]), "bbox must be"),
        (set_in("annotations", 0, bbox=[1, 2, 3, float("nan")]), "bbox must be"),
        (set_in("annotations", 0, segmentation=[[1, 2, 3, 4, 5, 10**19]]), "a polygon must be a list x, y"),
        (set_in("annotations", 0, segmentation=[[1, 2, 3, 4, 5, -1e8]]), "a corner 1e+08 pixels away"),
        (set_in("annotations", 0, segmentation=[[0, 0, 9e5, 0] * 9]), "an outline of 16200000 pixels"),
        (set_in("annotations", 0, segmentation=[{"counts": []}]), "a polygon must be a list x, y"),
        (set_in("annotations", 1, segmentation={"size": [64, 96], "counts": [6144.0]}), "do not add up"),
        (set_in("annotations", 1, segmentation={"size": [64, 96], "counts": [6144, False]}), "do not add up"),
        (set_in("annotations", 1, segmentation={"size": "64", "counts": [6144]}), "run lengths of size '64'"),
        (set_in("annotations", 0, id=2**63), "annotations[0]: id must be a whole number, got '9223372036854775808'"),
        (set_in("annotations", 0, image_id=10**30), "a whole number of 31 digits, at most 20 are read"),
        (set_in("annotations", 0, image_id=100.0), "annotations[0]: image_id must be a whole number, got '100.0'"),
        (set_in("annotations", 0, category_id=True), "annotations[0]: category_id must be a whole number"),
        (set_in("images", 0, width=0), "image 100 has the size 0 x 64"),
        (set_in("images", 0, height=2**31, width=2**31), "image 100 has the size 2147483648 x 2147483648"),
        (set_in("images", 0, file_name=" "), "images[0]: file_name must be text, got ' '"),
        (set_in("images", 0, file_name="../p.png"), "image 100: '../p.png' does not name a file below"),
        (set_in("images", 0, file_name="/etc/passwd"), "image 100: '/etc/passwd' does not name a file below"),
        (lambda tree: tree["images"].insert(0, "p0.png"), "images[0]: id must be a whole number, got 'None'"),
        (set_in("categories", 0, name=3), "categories[0]: name must be text, got '3'"),
        (set_in("categories", 1, name="disc"), "'categories' names 'disc' twice; each class needs a name of its own"),
        (set_in("categories", 1, name="a\nb"), r"'categories' must be names, got 'a\nb'"),
    ],
)
def test_bad_annotations_are_one_line_that_names_the_file(tmp_path, change, words):
    with pytest.raises(CrissCrossError) as caught:
        bad(tmp_path, change)()
    assert words in str(caught.value) and "instances_train2017.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("far", [100, 1e4, 9.9e5])
def test_a_corner_beyond_the_image_is_cut_off(far):
    # Of the rectangle from (5, 5) to (far, 30) 55 columns and 25 rows lie inside.
    entry = annotation(1, 1, 1, [[5, 5, far, 5, far, 30, 5, 30]], [5, 5, 25, 25])
    sound, beyond = checked(entry, 40, 60, "here")
    assert beyond and decode(sound["segmentation"], 40, 60).sum() == 1375
    assert decode(sound["segmentation"], 40, 60)[5:30, 5:].all()


@pytest.mark.parametrize("value", [0, 1, False, True, None])
def test_crowds_as_they_are_written(value):
    entry = annotation(1, 1, 1, [bar(5, 5, 9, 9)], [5, 5, 9, 9], iscrowd=value)
    assert checked(entry, 40, 60, "here")[0]["iscrowd"] == (1 if value else 0)


def test_damaged_run_lengths_without_a_box_name_their_annotation():
    entry = annotation(1, 1, 1, {"size": [40, 60], "counts": "o" * 10**5}, [0, 0, 1, 1])
    del entry["bbox"]
    with pytest.raises(CrissCrossError, match=r"^here: damaged run lengths \(a number of more than 60 bits\)"):
        checked(entry, 40, 60, "here")


def test_file_names_in_either_unicode_form(tmp_path):
    tree = tree_of(1)
    tree["images"][0]["file_name"] = "caf\u00e9.png"
    root = write_coco(tmp_path, tree)
    (root / "train2017" / "caf\u00e9.png").rename(root / "train2017" / "cafe\u0301.png")
    split = open_coco_instances(root).split("train")
    split.check_files()
    assert split.images[0].path == root / "train2017" / "cafe\u0301.png"


def test_compressed_run_lengths_are_read_as_pycocotools_writes_them():
    generator = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 1.0):
        text = encode(generator.random((37, 53)) < share)["counts"]
        check_text(text, 37 * 53)
        for damaged in (text[:-1], text + "1", text + "~"):
            with pytest.raises(ValueError):
                check_text(damaged, 37 * 53)


@pytest.mark.parametrize("counts", ["0" * 40, "", "P", "z{|", "\u00e9"])
def test_damaged_text_of_run_lengths_names_file_and_annotation(tmp_path, counts):
    shape = {"size": [HEIGHT, WIDTH], "counts": counts}
    split = split_of(tmp_path, [annotation(8, 100, 3, shape, [10, 10, 20, 20])])
    with pytest.raises(CrissCrossError, match=r"instances_train2017.json: annotation 8: damaged run lengths"):
        target_of(split, split.images[0], {3: 1})


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(CrissCrossError, match="no such folder"):
        open_coco_instances(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CrissCrossError, match=r"no annotations/instances_\*\.json"):
        open_coco_instances(tmp_path / "empty")
    root = write_coco(tmp_path / "coco")
    data = open_coco_instances(root)
    assert data.has("val") and not data.has("test") and not data.has("")
    with pytest.raises(CrissCrossError, match="no split 'test'"):
        data.split("test")
    (root / "train2017" / "p1.png").unlink()
    (root / "train2017" / "p2.png").unlink()
    with pytest.raises(CrissCrossError, match=r"p1.png: no such file, .*2 of 4 images are missing"):
        data.split("train").check_files()
    file = root / "annotations" / "instances_val2017.json"
    file.write_text(file.read_text()[:200])
    with pytest.raises(CrissCrossError, match=r"instances_val2017.json: not valid JSON \(cut off or damaged\?\)"):
        data.split("val")


def test_images_of_another_size_are_named(tmp_path):
    root = write_coco(tmp_path)
    Image.new("RGB", (50, 40)).save(root / "train2017" / "p0.png")
    split = open_coco_instances(root).split("train")
    with pytest.raises(CrissCrossError, match=r"p0.png: is 50 x 40, the annotations say 96 x 64"):
        list(whole_images(split.images))


def test_the_tree_comes_back_as_it_was(tmp_path):
    tree = open_coco_instances(write_coco(tmp_path)).split("train").as_coco()
    assert tree["categories"] == list(CATEGORIES)
    assert [entry["id"] for entry in tree["annotations"]] == [0, 1, 10, 11, 20, 21]
    assert json.loads(json.dumps(tree)) == tree
