"""Folders that people mixed up: files, and how they are to be read, as in `folder_layouts`; or what one line says."""

import io
from typing import Any

import numpy as np
from folder_layouts import (
    BYTES,
    CELL,
    COLORS,
    HELD,
    NUMBERED,
    PHOTO,
    SPLIT,
    SQUARE,
    THREE,
    TWO,
    YOLO,
    H,
    W,
    coco,
    images,
    pairs,
    split_pairs,
)
from PIL import Image

RED_GREEN = [[0, 0, 0], [255, 0, 0], [0, 255, 0]]
GREEN_RED = [[0, 0, 0], [0, 255, 0], [255, 0, 0]]
CLASS_DICT = "name,r,g,b\nvoid,0,0,0\nroad,128,64,128\ncar,0,0,142\n"
ROADS = ("background", "road", "car")


def saved(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def palette_png(values: np.ndarray, palette: list[list[int]]) -> bytes:
    image = Image.fromarray(values)
    image.putpalette([value for color in palette for value in color])
    return saved(image)


def two_palettes() -> dict[str, Any]:
    """The same colors everywhere, by other numbers in three of six masks."""
    swapped = np.array([0, 2, 1], np.uint8)[THREE]
    files = pairs("images/{}.png", "masks/{}.png", THREE)
    for n in range(6):
        files[f"masks/{n}.png"] = palette_png(THREE, RED_GREEN) if n < 3 else palette_png(swapped, GREEN_RED)
    return files


def mixed() -> dict[str, Any]:
    """Three masks of 0 and 1, three of 0 and 255."""
    return pairs("images/{}.png", "masks/{}.png", BYTES) | {f"masks/{n}.png": SQUARE for n in range(3)}


def counted_objects(bits: int = 8) -> dict[str, Any]:
    """Masks whose values count objects, 4 + 3n of them in the mask n."""
    files = images("images/{}.png")
    for n in range(6):
        mask = np.zeros(H * W, np.uint8 if bits == 8 else np.uint16)
        mask[: 4 + 3 * n] = np.arange(1, 5 + 3 * n) + (0 if bits == 8 else 300)
        files[f"masks/{n}.png"] = mask.reshape(H, W)
    return files


def listed(root: str, first: int, last: int, end: str = "\n") -> str:
    return "".join(f"{root}{n}.jpg{end}" for n in range(first, last))


THREE_FILES = pairs("images/{}.png", "masks/{}.png", THREE)
FROM_1 = np.where(np.arange(H)[:, None] == H - 1, 255, THREE + 1).astype(np.uint8)
EXTRA = {f"images/extra/e{n}.jpg": PHOTO for n in range(2)}
MASKS_OF_CLASSES = pairs("images/{}.png", "masks/cell/{}.png", BYTES)

READ: dict[str, tuple[dict[str, Any], tuple[str, ...], dict[str, int], np.ndarray]] = {
    "0 and 1, 0 and 255": (mixed(), TWO, HELD, SQUARE),
    "0 and 1, 0 and 255, one class named": (mixed() | {"classes.txt": "cell\n"}, CELL, HELD, SQUARE),
    "1-bit masks": (pairs("images/{}.png", "masks/{}.png", SQUARE > 0), TWO, HELD, SQUARE),
    "palettes that differ": (two_palettes(), ("#000000", "#00ff00", "#ff0000"), HELD, np.array([0, 2, 1])[THREE]),
    "palettes that differ, with class_dict.csv": (
        two_palettes() | {"class_dict.csv": " Name, R, G, B\nvoid,0,0,0\nroad,255,0,0\ncar,0,255,0\n"},
        ("void", "road", "car"),
        HELD,
        THREE,
    ),
    "palettes that differ, with dataset.yaml": (
        two_palettes() | {"dataset.yaml": "names: [a, b, c]\npalette: [[0, 0, 0], [255, 0, 0], [0, 255, 0]]\n"},
        ("a", "b", "c"),
        HELD,
        THREE,
    ),
    "palettes of grays": (
        pairs("images/{}.png", "masks/{}.png", THREE)
        | {f"masks/{n}.png": palette_png(THREE, [[k * n] * 3 for k in range(3)]) for n in range(6)},
        NUMBERED,
        HELD,
        THREE,
    ),
    "from 1, with 255": (
        pairs("images/{}.png", "masks/{}.png", FROM_1),
        ("class 1", "class 2", "class 3"),
        HELD,
        np.where(FROM_1 == 255, 255, FROM_1 - 1),
    ),
    "class_dict.csv": (
        pairs("images/{}.png", "masks/{}.png", COLORS[THREE]) | {"class_dict.csv": CLASS_DICT},
        ("void", "road", "car"),
        HELD,
        THREE,
    ),
    "class_dict_seg.csv and numbers": (
        THREE_FILES | {"class_dict_seg.csv": CLASS_DICT.replace(",", ", ")},
        ("void", "road", "car"),
        HELD,
        THREE,
    ),
    "CamVid as Kaggle has it": (
        split_pairs("{split}/a{n}.png", "{split}_labels/a{n}_L.png", COLORS[THREE])
        | {"class_dict.csv": CLASS_DICT + "Bicyclist,0,128,192\n"},
        ("void", "road", "car", "Bicyclist"),
        SPLIT,
        THREE,
    ),
    "CVAT CamVid in train and val": (
        split_pairs("{split}/a{n}.png", "{split}annot/a{n}.png", COLORS[THREE])
        | {"label_colors.txt": "0 0 0 background\n128 64 128 road\n0 0 142 car\n"},
        ROADS,
        SPLIT,
        THREE,
    ),
    "numbered names": (THREE_FILES | {"classes.txt": "0 background\n1 road\n2 car\n"}, ROADS, HELD, THREE),
    "numbers with colons": (THREE_FILES | {"classes.txt": "0: background\n1: road\n2: car\n"}, ROADS, HELD, THREE),
    "numbers behind": (THREE_FILES | {"classes.txt": "name,id\nbackground,0\nroad,1\ncar,2\n"}, ROADS, HELD, THREE),
    "numbered from 1": (THREE_FILES | {"classes.txt": "1 road\n2 car\n"}, ROADS, HELD, THREE),
    "numbers with gaps": (
        pairs("images/{}.png", "masks/{}.png", THREE * 10) | {"labels.txt": "# mine\n0 background\n10 road\n20 car\n"},
        ROADS,
        HELD,
        THREE,
    ),
    "names in one line": (THREE_FILES | {"classes.txt": "background, road, car\n"}, ROADS, HELD, THREE),
    "names with colors": (
        pairs("images/{}.png", "masks/{}.png", COLORS[THREE])
        | {"classes.txt": "background 0 0 0\nroad 128 64 128\ncar 0 0 142\n"},
        ROADS,
        HELD,
        THREE,
    ),
    "names that end in numbers": (
        THREE_FILES | {"classes.txt": "type 1\ntype 2\ntype 3\n"},
        ("type 1", "type 2", "type 3"),
        HELD,
        THREE,
    ),
    "a folder for the background": (
        MASKS_OF_CLASSES | {f"masks/background/{n}.png": 255 - BYTES for n in range(6)},
        CELL,
        HELD,
        SQUARE,
    ),
    "masks in a folder of their own": (
        pairs("images/{}.png", "annotations/trimaps/{}.png", THREE) | {"annotations/trainval.txt": "0 1 1 1\n"},
        NUMBERED,
        HELD,
        THREE,
    ),
    "Ultralytics with lists": (
        pairs("images/{}.jpg", "masks/{}.png", THREE)
        | {
            "data.yaml": "path: /home/x\ntrain: lists/a.txt\nval: [lists/b.txt]\nnames: [background, road, car]\n",
            "lists/a.txt": listed("/home/x/images/", 0, 4),
            "lists/b.txt": listed("C:\\sets\\x\\images\\", 4, 6, "\r\n"),
        },
        ROADS,
        SPLIT,
        THREE,
    ),
    "Ultralytics with folders in a list": (
        split_pairs("images/{split}/{n}.jpg", "masks/{split}/{n}.png", THREE)
        | EXTRA
        | {f"masks/extra/e{n}.png": THREE for n in range(2)}
        | {"data.yaml": "train: [images/train, images\\extra]\nval: images/val\ntest:\nnames: [background, road, car]"},
        ROADS,
        {"train": 6, "val": 2},
        THREE,
    ),
    "polygons with folders in a list": (
        split_pairs("images/{split}/{n}.jpg", "labels/{split}/{n}.txt", YOLO)  # type: ignore[arg-type]
        | EXTRA
        | {f"labels/extra/e{n}.txt": YOLO for n in range(2)}
        | {"data.yaml": "train:\n- images/train\n- images/extra\nval: images/val\nnames: [cell]\n"},
        CELL,
        {"train": 6, "val": 2},
        SQUARE,
    ),
    "polygons with lists": (
        pairs("images/{}.jpg", "labels/{}.txt", YOLO)  # type: ignore[arg-type]
        | {"data.yaml": "train: train.txt\nval: val.txt\nnc: 1\n"}
        | {"train.txt": listed("./images/", 0, 4), "val.txt": listed("./images/", 4, 6)},
        ("background", "class 0"),
        SPLIT,
        SQUARE,
    ),
    "lists of Windows": (
        pairs("images/{}.jpg", "masks/{}.png", THREE)
        | {"train.txt": listed("C:\\Users\\bob\\images\\", 0, 4, "\r\n"), "val.txt": listed("D:\\my data\\", 4, 6)},
        NUMBERED,
        SPLIT,
        THREE,
    ),
    "lists of pairs with other names": (
        {f"images/i{n}.jpg": PHOTO for n in range(6)}
        | {f"labels/m{n}.png": THREE for n in range(6)}
        | {
            "train.txt": "".join(f"/data/images/i{n}.jpg /data/labels/m{n}.png\n" for n in range(4)),
            "val.txt": "".join(f"images\\i{n}.jpg|labels\\m{n}.png\n" for n in (4, 5)),
        },
        NUMBERED,
        SPLIT,
        THREE,
    ),
    "fast.ai's lists, other classes": (
        pairs("images/a{}.png", "labels/a{}_P.png", THREE)
        | {"codes.txt": "background\nroad\ncar\n", "valid.txt": "a4.png\na5.png\n"},
        ROADS,
        SPLIT,
        THREE,
    ),
    "a split without masks": (
        pairs("train/{}_sat.jpg", "train/{}_mask.png", THREE) | images("valid/v{}_sat.jpg", range(2)),
        NUMBERED,
        HELD,
        THREE,
    ),
}

SOFT = BYTES.copy()
SOFT[3, 4:10] = [128, 77, 30, 200, 210, 91]
PANOPTIC = coco([f"{n}.jpg" for n in range(6)]) | {"annotations": [{"image_id": 0, "segments_info": []}]}
REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "counted objects": (counted_objects(), ("each numbers one object", "--classes-at 0,1 --out", "classes.txt")),
    "counted objects of 16 bits": (counted_objects(16), ("16-bit mask", "is one object", "--classes-at 0,1 --out")),
    "nothing but 0": (
        pairs("images/{}.png", "masks/{}.png", np.zeros((H, W), np.uint8)),
        ("every mask that was looked at is 0 all over", "the right files?"),
    ),
    "hundreds of values": (
        pairs("images/{}.png", "masks/{}.png", np.arange(H * W, dtype=np.uint8).reshape(H, W)),
        ("192 values up to 191", "--classes-at 0,1"),
    ),
    "soft edges": (pairs("images/{}.png", "masks/{}.png", SOFT), ("soft edges", "--classes-at 0,255 --out")),
    "transparency": (
        pairs("images/{}.png", "masks/{}.png", np.dstack([np.zeros((H, W, 3), np.uint8), BYTES])),
        ("lies in the transparency", "prepare masks", "masks-png`"),
    ),
    "from 1, named, with 255": (
        pairs("images/{}.png", "masks/{}.png", FROM_1) | {"classes.txt": "a\nb\nc\n"},
        ("create ", "dataset.yaml with the line: {names: [a, b, c], labels: {1: 0, 2: 1, 3: 2, 255: ignore}}"),
    ),
    "too few names": (
        pairs("images/{}.png", "masks/{}.png", THREE * 3) | {"classes.txt": "a\nb\n"},
        ("hold the values 0, 3, 6", "classes.txt names 2 classes", "`value: name` into classes.txt"),
    ),
    "a value without a number": (
        pairs("images/{}.png", "masks/{}.png", THREE * 10) | {"classes.txt": "0 a\n10 b\n"},
        ("hold 20, which classes.txt does not list", "`20 NAME`"),
    ),
    "one line without a number": (
        THREE_FILES | {"classes.txt": "0 a\n1 b\ncar\n"},
        ("classes.txt", "'car' has no number", "without numbers"),
    ),
    "a table without blue": (
        THREE_FILES | {"class_dict.csv": "name,r,g\nvoid,0,0\n"},
        ("class_dict.csv", "must be `name,r,g,b`"),
    ),
    "one color twice": (
        THREE_FILES | {"class_dict.csv": "name,r,g,b\nvoid,0,0,0\nroad,0,0,0\n"},
        ("'void' and 'road' have one color",),
    ),
    "classes in a folder of one class": (
        pairs("images/{}.png", "masks/cell/{}.png", THREE) | {f"masks/wall/{n}.png": BYTES for n in range(6)},
        ("holds values up to 2", "masks of one class hold 0 and 255"),
    ),
    "images alone": (images("photos/{}.jpg"), ("6 images in", "photos/, no masks", "masks/ (docs/data.md")),
    "an empty folder of masks": (images("images/{}.jpg") | {"masks/readme.txt": "none"}, ("6 images in", "no masks")),
    "a YAML file, no masks": (
        images("images/{}.jpg") | {"data.yaml": "train: images\nval: images\nnames: [a]\n"},
        ("data.yaml", "neither masks nor polygons", "masks/ or labels/"),
    ),
    "a YAML file with a list of images elsewhere": (
        images("images/{}.jpg") | {"data.yaml": "train: a.txt\nval: a.txt\nnames: [a]\n", "a.txt": "x/y.jpg\n"},
        ("a.txt: none of its images is here",),
    ),
    "GIF masks": (
        images("train/{}.jpg") | {f"train_masks/{n}_mask.gif": saved(Image.fromarray(SQUARE), "GIF") for n in range(6)},
        ("masks are .gif files (0_mask.gif)", "with Pillow: `Image.open(file)"),
    ),
    "NumPy masks": (
        images("imgs/{}.jpg") | {f"masks/{n}.npy": b"\x93NUMPY" for n in range(6)},
        ("masks are .npy files (0.npy)", "np.load(file)"),
    ),
    "run lengths": (
        images("train_images/{}.jpg") | {"train.csv": "ImageId,ClassId,EncodedPixels\n0.jpg,1,3 4\n"},
        ("train.csv holds run lengths", "decode them to index PNG"),
    ),
    "VIA": (
        images("{}.jpg") | {"via.json": {"0.jpg": {"regions": [{"shape_attributes": {"all_points_x": [1]}}]}}},
        ("via.json", "VGG Image Annotator", "as COCO"),
    ),
    "Parquet": ({"data/train-0.parquet": b"PAR1"}, ("Parquet files are not read",)),
    "panoptic": (images("images/{}.jpg") | {"panoptic.json": PANOPTIC}, ("panoptic format", "as COCO instances")),
    "Label Studio's PNG": (
        images("{}.jpg") | {f"task-{n}-annotation-{n}-by-1-tag-cell-0.png": BYTES for n in range(6)},
        ("Label Studio do not tell their image",),
    ),
    "labelme_export_json": (
        {"a_json/img.png": PHOTO, "a_json/label.png": SQUARE, "a_json/label_names.txt": "_background_\ncell\n"},
        ("number the classes anew in each",),
    ),
    "a list with a mask that is not there": (
        {f"images/i{n}.jpg": PHOTO for n in range(3)}
        | {f"labels/m{n}.png": THREE for n in range(3)}
        | {
            "train.txt": "images/i0.jpg labels/m0.png\nimages/i1.jpg labels/m9.png\n",
            "val.txt": "images/i2.jpg labels/m2.png\n",
        },
        ("train.txt, line 2: no mask named 'labels/m9.png'",),
    ),
    "images of one split in two folders": (
        pairs("Train/Urban/images_png/{}.png", "Train/Urban/masks_png/{}.png", THREE)
        | pairs("Train/Rural/images_png/r{}.png", "Train/Rural/masks_png/r{}.png", THREE),
        ("images lie in Train/Rural/images_png and in Train/Urban/images_png", "put them together, or choose one"),
    ),
}
